"""The commonest words of languages in Latin letters, lower case: articles, pronouns, prepositions, conjunctions,
numerals, forms of a few verbs, and the nouns and verbs of reckoning, as any grammar lists them. They make up a third
to a half of running text, and none of names and formulas.

Words that are also English, mathematics or first names (die, pour, plus, sin, dan, ben) stand in no other list: what
three million words of English questions and chains held more than twice was left out.
"""

_LISTS = {
    "en english": """
        the of and to is that it in we be this so for are then but if not as with from or which have has on by was
        an at can there what when they he she his her its their would should could will one each all two because
        since let need also now i you how my me more than other after only first wait so's let's that's it's both
        any some these those does do did just where who been into about same no yes find answer a im i'm i've i'll
        you're we're we've they're he's she's there's isn't doesn't don't can't won't didn't wasn't aren't am were
        being doing done had having got get gets give gives given go goes going say says said see seems take takes
        make makes made means mean know think check look using use used way many much such different own every
        either neither another few most least less again once still even though although however therefore thus
        hence while during before above below under over between through against without within per out up down off
        really actually maybe perhaps probably quite very too well okay ok hmm right true false whether why whose
        whom yet never always often three four five six seven eight nine ten second third last next half total
        number numbers question problem sum part times result value case step work""",
    "fr french": """
        sans sous vers chez autre autres ceux celui celle rien fois dont faire j'ai s'il quand de la et en un je les
        des du une dans est sont pas que qui cette ces il elle nous vous ils elles aux avec donc ou où ainsi alors
        cela ça c'est qu'il qu'on qu'elle d'un d'une l'on n'est été être avoir avons faut peut peuvent leur leurs
        ses chaque même aussi puis puisque lorsque comme très entre après avant deux trois nombre chacun tous toutes
        ensuite encore jour jours combien reste calculons soit cet ceci voici voilà notre nos votre vos te lui eux
        moi toi soi lequel laquelle lesquels quel quelle quels quelles quoi dès depuis pendant selon malgré parmi
        envers hors jusque jusqu'à afin sinon cependant toutefois néanmoins pourtant tandis sauf suis es sommes êtes
        étais était étaient sera serait seront soient avez ont avait avaient aura aurait auront eu peux pouvons
        pouvez pourrait pourrais pourrons dois doit devons devez doivent devrait fais fait faisons faites font
        ferait veux veut voulons veulent voudrait vais va allons allez vont irait dis dit disons disent vois voit
        voyons voient sais sait savons savent donne donnent donné obtient obtenons obtenu trouve trouvons trouver
        trouvé prend prenons prendre mettre restent devient contient signifie semble vaut valent calculer calcule
        multiplier multiplions ajouter ajoute ajoutons soustraire diviser divisons vérifier vérifions assez beaucoup
        bien bientôt d'abord déjà seulement simplement finalement exactement ici là jamais toujours souvent
        maintenant moins peu presque plutôt surtout tant tard trop vraiment oui peut-être chacune certains certaines
        aucun aucune plusieurs toute quelques quelque quatre cinq huit neuf dix onze douze vingt trente quarante
        cinquante mille premier première deuxième seconde dernière dernier réponse résultat somme problème énoncé
        calcul partie moitié côté prix heures semaine mois année années personnes attendez d'accord n'y n'a n'ont
        n'est-ce c'était qu'elles qu'ils qu'un qu'une s'agit l'autre l'énoncé d'autres d'eux j'en""",
    "de german": """
        keine kein beiden andere anderen gleich hier dort ohne gegen um bis seit sehr mehr viel viele etwas nichts
        wer deren hatte waren nochmal ob passt fehlen den er der das und ist ein eine einen einem einer des dem mit
        für von auf nicht sich wir sie ich auch als wie aber oder wenn dann nach bei aus zu zum zur durch über unter
        sind wird werden haben kann können muss müssen nur noch schon diese dieser dieses jeder jede jedes jeden
        insgesamt daher deshalb denn weil dass damit zuerst jetzt gibt beträgt zwei drei ihr ihre ihm sein seine
        eines welche welcher welches welchen jene jener jenes solche solcher mein meine meinen dein deine euer eure
        unser unsere unseren seiner seinem seinen ihrer ihrem ihren es mich dich uns euch ihn ihnen mir jemand
        niemand alles alle aller einige mehrere manche wenige ins vom beim zwischen hinter neben vor wegen während
        trotz außer statt innerhalb außerhalb gegenüber sowie sowohl sondern jedoch doch trotzdem obwohl sobald
        solange nachdem bevor indem sodass somit folglich deswegen nämlich dadurch davon dazu daraus darauf darin
        dafür dabei danach daran darum hierbei hierzu bist seid wäre wären gewesen habe hast habt hätte hätten
        gehabt werde wirst wurde wurden würde würden worden könnte könnten konnte konnten kannst darf dürfen sollte
        sollten soll sollen wollen wollte möchte musste müsste müssten mag macht machen gemacht geht gehen ging
        kommt kommen kam steht stehen sieht sehen gesehen sagt sagen gesagt weiß wissen findet finden gefunden nimmt
        nehmen genommen bleibt bleiben geblieben liegt liegen ergibt ergeben enthält bedeutet heißt stimmt rechnen
        berechnen berechne addieren subtrahieren multiplizieren dividieren teilen geteilt prüfen prüfe überprüfen
        brauchen braucht zählen lassen lass schauen schau wieder immer nie niemals oft manchmal heute gestern morgen
        gerade genau ganz etwa ungefähr vielleicht wahrscheinlich natürlich wirklich einfach eigentlich zuletzt
        schließlich endlich anschließend nun bereits genug zusammen allein weiter weniger meisten mindestens
        höchstens sonst ebenfalls außerdem wo wann warum wieso wieviel wohin woher wem wen wessen null eins vier
        fünf sechs sieben acht neun zehn elf zwölf zwanzig dreißig vierzig fünfzig hundert tausend erste ersten
        erster erstes zweite zweiten zweiter dritte dritten letzte letzten halb hälfte doppelt antwort ergebnis
        aufgabe frage lösung zahl zahlen summe anzahl teil tage tagen woche wochen stunde stunden minuten jahr jahre
        jahren leute kosten preis weg""",
    "es spanish": """
        otro otra otros quienes ninguna ninguno nada aquí mismo misma igual hacer haya lleva de la en un lo es con
        el los las una que por para sus como pero este esta esto ese esa entonces también más muy cada uno está
        están tiene tienen puede debe hemos tenemos vamos ahora primero porque cuando donde nos todo todos ellos así
        luego después cuántos cuántas día días sobre entre hasta desde ser fue unos unas aquel aquella aquello
        aquellos aquellas estos estas esos esas eso tu tus su nuestro nuestra nuestros nuestras yo tú él ellas
        nosotros ustedes te les os quien cuyo cual cuales qué cuál cuáles quién cómo dónde cuándo cuánto cuánta ante
        bajo contra durante mediante según tras hacia excepto mas sino aunque pues mientras eres somos eran será
        serán sería fueron sido estoy estamos estaba estaban estar había habrá habría haber tengo tienes tenía
        tenían tendrá tendría tener tenido puedo puedes podemos pueden podría podrían podía poder debo deben debería
        deberían hace hacen hago hacemos hizo hecho voy va vas ir iba quiero quiere quieren sé sabe sabemos saber
        digo dicen decir veo vemos ver visto doy dar dado dio queda quedan quedarse salen salir llega llegan llegar
        pone ponen poner llevan llevar encuentra encontrar calcular calculamos calculo sumar sumamos suma restar
        restamos multiplicar multiplicamos dividir dividimos obtener obtenemos obtiene significa contiene parece
        necesito necesitamos espera creo ya sí bien mal mucho mucha muchos muchas poco poca pocos algo alguien
        alguna algún algunos algunas nunca siempre jamás todavía aún además incluso casi solo sólo solamente quizás
        tal vez allí allá ayer hoy mañana antes finalmente exactamente simplemente menos menor mejor mismos mismas
        ambos ambas demás varios varias tanto tanta tantos cero dos tres cuatro cinco seis siete ocho nueve diez
        doce veinte treinta cuarenta cincuenta cien ciento mil primera segunda segundo tercera tercer último última
        mitad doble respuesta resultado pregunta problema número números enunciado parte cantidad precio costo horas
        semana semanas mes meses año años personas veces tenga""",
    "it italian": """
        senza altro altra altri altre ognuna ognuno stessa stesso niente quello quella quelli quelle cui molto già
        ci dobbiamo sia dato di la un si ha con del il gli della dello degli delle che una uno sono più anche questo
        questa questi quindi allora poi perché ogni nel nella nelle dal dalla alla sul sulla hanno abbiamo deve può
        essere quando dove adesso prima dopo tutti tutto loro suo sua suoi cioè quanti quante giorno giorni tre
        dunque lo un' mio miei tuo tua nostro nostra vostro io tu lui lei noi voi essi te ti vi ciò ciascuno
        ciascuna qualche alcuni alcune nessuno nessuna qualcosa qualcuno quale quali quanto quanta su tra fra sotto
        sopra contro verso durante secondo nell' dell' all' sull' dall' nello nei negli allo alle agli dai dagli
        dallo dalle sui sugli sulle coi oppure però anzi bensì mentre sebbene affinché finché poiché siccome perciò
        pertanto infatti comunque invece inoltre sei è siamo siete erano sarà saranno sarebbe stato stata stati
        essendo ho hai avete aveva avevano avrà avrebbe avere avuto posso puoi possiamo possono potrebbe potrei devo
        devi devono dovrebbe dovrei faccio fa fai facciamo fanno fatto vado va vai andiamo vanno andare voglio vuole
        vogliono sa sappiamo sanno sapere dico dicono dire vedo vede vediamo vedere visto dà danno dare viene
        vengono venire rimane rimangono resta restano trova troviamo trovare calcolare calcoliamo calcolo sommare
        sommiamo somma sottrarre moltiplicare moltiplichiamo dividere dividiamo aggiungere ottenere otteniamo
        significa contiene sembra aspetta penso controllo sì bene tanto tanti tanta tante poco pochi poca sempre mai
        spesso ancora subito solo soltanto quasi circa forse ora qui qua lì là ieri oggi domani infine finalmente
        esattamente semplicemente meno maggiore minore meglio stessi stesse entrambi entrambe quattro cinque sette
        otto nove dieci undici dodici venti trenta quaranta cinquanta cento mille primo seconda terzo terza ultimo
        ultima metà doppio risposta risultato domanda problema numero numeri totale parte quantità prezzo costo
        settimana mese mesi anno anni persone volta volte dell'altro c'è dov'è cos'è un'altra all'inizio""",
    "pt portuguese": """
        sem outro outra outros mesma mesmo nada fazer nenhum nenhuma há aqui foram ficaram nossos maior preciso de
        um os da dos em com mais uma não que das nos para por seu sua seus suas ele eles elas isso este esta então
        também cada são está tem têm pode deve foi ser temos vamos agora primeiro porque quando onde já ao aos às
        pelo pela muito até quantos quantas dias depois dois duas três como portanto assim uns umas meu minha meus
        minhas teu tua nosso nossa nossas vosso lhe lhes te eu tu você vocês nós aquele aquela aquilo aqueles
        aquelas estes estas esses essas esse essa quem qual quais cujo quê após ante contra desde durante perante
        sob sobre entre mediante conforme segundo numa nuns nesse nessa neste nesta nisso nele nela dele dela deles
        delas deste desta desse dessa disso daquele àquele àquela pelos pelas ou mas porém todavia contudo embora
        enquanto pois porquanto nem sou és somos eram será serão seria sido estou estamos estava estavam estar
        esteve havia houve tenho tinha tinham terá teria ter tido posso podes podemos podem poderia podia poder devo
        devem devemos deveria faz fazem faço fazemos fez feito faria vou vai vão ir iria quero quer querem sei sabe
        sabemos saber digo diz dizem dizer vejo vê vemos vejamos ver visto dou dá dão dar dado ficam ficar sai saem
        chega chegam chegar chega-se põe põem pôr leva levam encontrar encontramos calcular calculamos cálculo somar
        somamos soma subtrair multiplicar multiplicamos dividir dividimos obter obtemos obtém significa contém
        parece precisamos espera acho bem mal muita muitos muitas pouco pouca poucos algo alguém alguma algum alguns
        algumas nunca sempre jamais ainda além quase só somente apenas talvez lá cá ontem hoje amanhã antes
        finalmente exatamente simplesmente menos menor melhor mesmos mesmas ambos ambas demais vários várias tanto
        tantos tudo toda todo todos todas ninguém certo quatro cinco seis sete oito nove dez onze doze vinte trinta
        quarenta cinquenta cem cento mil primeira segunda terceiro terceira último última metade dobro resposta
        resultado pergunta problema número números enunciado parte quantidade preço custo horas semana semanas mês
        meses ano anos pessoas vez vezes caminhos fim""",
    "nl dutch": """
        ik je geen niets samen tot tegen onder zonder weer hier daar degenen zich wie waar beide nog eens de en op
        te het een dat niet zijn voor aan ook als maar hij ze wij dus bij uit worden wordt heeft hebben kunnen moet
        moeten deze dit elke elk naar eerst twee drie hun haar totaal omdat hoeveel dagen geeft degene mijn jouw jou
        uw ons onze jij zij jullie mij iemand niemand iets alles sommige enkele meerdere vele weinig welk welke wat
        waarom wanneer waarvan waarbij hoe achter binnen boven buiten langs naast om rond sinds tijdens tussen vanaf
        volgens wegens noch doch echter hoewel terwijl zodat zodra totdat nadat voordat indien tenzij daarom daarna
        daarmee daarvan daarbij ervan erbij eruit erop ermee waren geweest wees heb hebt hadden gehad werd werden
        geworden kan kun kunt kon konden mag mogen mocht moest moesten wil willen wilde zal zullen zou zouden ga
        gaat gaan ging doe doet doen deed gedaan kom komt komen kwam sta staat staan stond zit zitten zie ziet zien
        zag zeg zegt zeggen weet weten geef geven gegeven neem neemt nemen krijg krijgt krijgen blijft blijven ligt
        liggen laten laat kijken kijk vinden vindt betekent bevat rekenen berekenen bereken vermenigvuldigen
        optellen aftrekken delen gedeeld controleren klopt hoeft nodig wacht denk er alle alleen alweer altijd nooit
        soms vaak nu toen straks vandaag gisteren morgen precies heel bijna ongeveer misschien waarschijnlijk
        natuurlijk echt gewoon eigenlijk tenslotte uiteindelijk vervolgens eindelijk genoeg verder meer minder
        minste meeste ieder iedere anders ja nee goed nul vier vijf zes zeven acht negen tien elf twaalf twintig
        dertig veertig vijftig honderd duizend eerste tweede derde laatste helft dubbel antwoord resultaat vraag
        opgave oplossing getal getallen som aantal deel dag weken uur uren minuten jaar mensen kosten prijs wegen""",
    "sv swedish": """
        finns inte måste få än något någon lägger samma lika hos kvar mot av svaret en den de har om vi och att som
        ett är på med för så eller när från ska också varje alla efter först två tre denna detta dessa vara blir
        eftersom därför där hur många dagar alltså dem deras dom denne dess mitt mina din ditt sitt sina vår vårt
        våra er ert jag hon oss mig honom henne några ingen inget allt vilken vilket vilka vem vars vad varför var
        vart bakom bland bredvid emellan framför förbi före genom inför innan inom kring mellan omkring runt ur utan
        utanför utom vid åt över medan ifall huruvida även både antingen varken varit vore hade haft blev blivit kan
        kunde kunnat kunna skulle skall vill ville får fick gör gjorde gjort göra går gick gått gå kommer kom kommit
        komma står stod stå ser såg sett säger sa sagt säga visste veta ger gav gett tar tog tagit fanns ligger låg
        låt låter titta hittar betyder innehåller räkna räknar räknat beräkna beräknar multiplicera multiplicerar
        addera subtrahera dividera dela delar kontrollera kontrollerar stämmer behöver behövs behövde vänta tror
        aldrig alltid ibland ofta nu då idag igår imorgon precis hela nästan ungefär kanske troligen verkligen bara
        egentligen slutligen sist äntligen nog vidare mer mindre minst mest annars ju ja nej redan igen tillsammans
        därefter fler färre således faktiskt okej noll fyra sex sju åtta nio tio elva tolv tjugo tjugofyra trettio
        fyrtio femtio hundra tusen första andra tredje sista halv hälften dubbelt svar resultat resultatet fråga
        frågan uppgift uppgiften lösning tal talet antal antalet summa summan delen dag dagen vecka veckor timmar
        minuter år människor personer pris kostar sätt sak""",
    "da danish": """
        der noget nogen samme lige hvis må få kun en er af den de har om vi og som på med ikke hun så eller når skal
        også hver efter først tre denne dette disse være bliver fordi derfor hvor hvad mange dage altså deres vil
        mit din dit dine sine vor vort vore jeres jeg os mig hende nogle ingen intet alt alle hvilken hvilket hvilke
        hvem hvorfor hvordan hvornår blandt foran fra før gennem hos inden inde mellem omkring rundt siden til uden
        udenfor ved mens selvom både enten hverken var været havde haft blev blevet kan kunne skulle ville måtte får
        fik gør gjorde gjort gøre går gik gået gå kommer kom komme står stod stå ser siger sagde sagt sige vidste
        vide giver gav givet tager tog taget tage findes fandt finde ligger lå lad lader betyder indeholder regne
        regner beregne beregner gange ganger lægge lægger trække dele deler kontrollere kontrollerer passer behøver
        behøves vent tror aldrig altid ofte nu dag præcis hele næsten måske sandsynligvis virkelig bare egentlig
        endelig sidst nok videre mere mindre mindst mest ellers ja nej allerede igen sammen faktisk derefter flere
        færre nul seks syv otte ti elleve tolv tyve tredive hundrede tusind første anden andet tredje sidste halv
        halvdelen dobbelt svar svaret resultat resultatet spørgsmål spørgsmålet opgave opgaven løsning tal tallet
        antal antallet summen delen dagen uge uger minutter år mennesker personer pris koster måde måder nødvendigt""",
    "no norwegian": """
        der noe noen samme hvis må få kun mot en er av den de har om vi og som på med ikke hun så eller når skal
        også hver etter først nå tre denne dette disse være blir fordi derfor hvor hva mange dager altså deres ei
        mitt din ditt dine sitt sine vår vårt våre jeg oss meg henne ingen intet alt alle hvilken hvilket hvilke
        hvem hvorfor hvordan bak blant foran fra før gjennom hos innen inne mellom omkring rundt siden til uten
        utenfor ved mens selv både enten verken var vært hadde hatt ble blitt kan kunne skulle vil ville måtte får
        fikk gjør gjorde gjort gjøre går gikk gått gå kommer kom komme står sto stå ser sett sier sa sagt visste
        vite gir ga gitt tar tok tatt finnes fant finne ligger lå betyr inneholder regne regner beregne beregner
        gange ganger legge legger trekke dele deler kontrollere sjekke passer stemmer trenger trengs vent tror aldri
        alltid ofte dag akkurat hele nesten omtrent kanskje sannsynligvis virkelig bare egentlig endelig slutt nok
        videre mer mindre minst mest ellers ja nei allerede igjen sammen faktisk greit deretter flere færre null
        seks sju åtte ti elleve tolv tjue tretti hundre tusen første tredje siste halv halvparten dobbelt svar
        svaret resultat resultatet spørsmål spørsmålet oppgave oppgaven løsning tallet antall antallet summen delen
        dagen uke uker minutter år mennesker personer pris koster måte måter nødvendig""",
    "pl polish": """
        jest też tych którzy nich niej nim ale bo żeby aby będzie można trzeba jednak nad bez sobie sobą swoje
        swoimi taka taki takie sama wszystkich wszystkie obie dalej jeszcze potem inny innych żadnej niczego zaraz
        osób na po nie się że jak czy przez więc tak dla jego jej ich są być może tylko który która które ponieważ
        każdy każda każdego oraz lub gdy kiedy teraz najpierw dwa dwie trzy jeśli mamy mają ile dni zatem czyli ze
        przy także również nam musimy te tamten tamta mój moja moje twój twoja nasz nasza nasze wasz swój swoja ja
        ona ono wy oni mnie cię mu jemu wam nimi ktoś coś nikt nic każde wszystko wszyscy kto gdzie skąd dokąd
        dlaczego ilu jaki jaka jakie czyj dzięki ku między oprócz podczas pomiędzy poza przeciw przed spod spośród
        wśród wobec za według albo bądź lecz jednakże natomiast zaś choć chociaż gdyż bowiem dlatego toteż aż jeżeli
        jakby niż ani jestem jesteś jesteśmy był była było byli były będę będą mam masz miał miała mieli mieć mogę
        możesz możemy mogą mógł mogłaby mógłbym mogło muszę musi muszą powinien powinna powinno chcę chce chcą wiem
        wie wiemy wiadomo widzę widać robić zrobić idzie idą iść daje dają dać dostajemy otrzymujemy wychodzi wynosi
        oznacza znaczy zawiera zostaje zostało obliczyć obliczamy obliczmy policzyć policzmy dodać dodajemy odjąć
        odejmujemy pomnożyć mnożymy podzielić dzielimy sprawdzić sprawdźmy sprawdzam zobaczmy potrzebne wystarczy
        zaczekaj czekaj myślę tam tu tutaj wtedy zawsze nigdy często czasem dzisiaj wczoraj jutro dokładnie prawie
        około chyba naprawdę prostu właściwie wreszcie końcu dość więcej mniej najmniej najwięcej inaczej już znowu
        razem dobrze właśnie bardzo dużo mało kilka wiele jeden jedna jedno dwóch trzech cztery pięć sześć siedem
        osiem dziewięć dziesięć jedenaście dwanaście dwadzieścia trzydzieści sto tysiąc pierwszy pierwsza pierwszej
        drugi druga drugiej trzeci trzecia ostatni ostatnia połowa połowę podwójnie odpowiedź wynik wyniku pytanie
        pytania zadanie zadania zadaniu treść rozwiązanie liczba liczbę liczby suma sumę część części dzień tydzień
        tygodnie godzin godziny minut rok lat lata osoby cena kosztuje sposób drogami sens""",
    "cs czech": """
        si ještě jednou nich ty těch tím ale musíme aby abychom jestli jiná jiný stejná stejné obě nic další dalších
        ve kteří byli na je že za jako který která které jsou být byl může také tak podle nebo když protože každý
        každá každého kolik dva dvě tři pak tedy nejprve teď máme mají není jeho její jejich dní ze při už celkem
        tato tento toto tyto ti můj moje tvůj náš naše váš svůj svou já ona ono vy oni ony mě mně tě ho mu jemu nám
        nás vám vás nimi někdo něco nikdo každé všechno všichni všechny všech kdo kde odkud kam proč jaký jaká jaké
        čí bez díky ke kromě kvůli mezi mimo nad okolo podél před přes proti vedle vůči anebo ani avšak však sice
        přesto ačkoli neboť totiž tudíž proto než jakmile dokud zatímco kdyby kdybych jsem jsi jsme jste byla bylo
        byly bych bychom budu bude budeme budou mám má máš měl měla měli mít mohu můžu můžeš můžeme mohou mohl mohla
        mohlo musím musí musel chci chce chtějí vím ví víme vidím vidíme dělá dělat udělat jde jdou jít dává dají
        dát dostaneme dostáváme vyjde vychází znamená obsahuje zbývá zůstane zůstává spočítat spočítáme počítat
        vypočítat vypočítáme přičíst přičteme odečíst odečteme vynásobit vynásobíme násobíme vydělit vydělíme dělíme
        zkontrolovat zkontroluji podívejme potřeba potřebujeme stačí počkat počkej myslím stojí tam tady zde nyní
        tehdy vždy nikdy často někdy dnes včera zítra přesně skoro asi možná opravdu prostě vlastně konečně nakonec
        dost více víc méně nejméně nejvíce jinak ano znovu zase spolu dohromady dobře právě velmi moc málo několik
        mnoho nula jeden jedna jedno dvou čtyři pět šest sedm osm devět deset jedenáct dvanáct dvacet třicet sto
        tisíc první druhý druhá druhé třetí poslední polovina polovinu dvojnásobek odpověď výsledek otázka otázku
        úloha úlohy zadání řešení číslo čísla součet počet část části den týden týdny hodin hodiny minut rok lidí
        osob cena způsob cestami smysl""",
    "ro romanian": """
        cei cele celor nimic altul aici când unde cum însă nici doar același aceeași încă dată la cu de un din și
        este sunt pentru că să fiecare acum apoi deci dacă atunci avem trebuie poate fost lui toate toți două doi
        trei câte câți zile ziua după despre această acest aceste dintre până astfel şi unui unei acel acea acei
        acele aceea aceia acesta aceasta aceştia acestea meu mea mei mele tău nostru noastră noștri lor eu tu el noi
        voi ei ele mă te îl îi vă îmi îți își cineva ceva nimeni fiecărui orice oricare cine câtă cât în dinspre
        către contra între fără lângă peste prin printre spre asupra decât conform sau ori dar iar deși fiindcă
        întrucât deoarece căci urmare ești suntem sunteți erau va vor fie avea aveau avut poți putem putea puteau aș
        trebui vreau vrea știu știe știm văd vede vedem vezi fac facem făcut merg dau dă dăm dat iau ia luăm primim
        obținem rezultă iese ies înseamnă conține rămâne rămân calculăm calculez calcula adunăm aduna scădem scade
        înmulțim înmulți împărțim împărți verificăm verific nevoie așteaptă cred spune spus scriu scrie află găsi
        găsim ajunge acolo mereu niciodată adesea uneori azi ieri mâine aproape cam chiar numai pur simplu fapt
        destul mai mult puțin cel cea altfel nu deja nou împreună bine foarte mulți multe câțiva câteva întâi unu
        una patru cinci șase șapte opt nouă zece unsprezece doisprezece douăzeci treizeci sută mie primul prima
        primei doua doilea treilea ultimul ultima jumătate dublu răspuns răspunsul rezultat rezultatul întrebare
        întrebarea problemă problema enunț enunțul soluție număr numărul numere sumă suma totalul parte partea zi
        zilele săptămână ani oameni persoane preț costă căi sens""",
    "hu hungarian": """
        egyszer benne meg amit azon ugyanaz mindkét aki akik hanem sem itt ott ilyen olyan másik első második nincs
        lenne legyen aztán jön ez ha de az egy és hogy nem azt ezt csak már vagy akkor minden kell lehet összesen
        tehát mert majd még után két három ami amely volt lesz először napon így ezért pedig szóval hány ők azok
        ezek ennek annak ebben abban ebből abból erre arra ezzel azzal enyém én te ti engem téged minket titeket
        nekem neked neki nekünk nekik velem vele velünk valaki valami senki semmi mindenki egyik mindegyik ki kik
        melyik milyen hol honnan hová mikor miért hogyan mennyi alatt által előtt fölött felett felé köré között
        körül mellett mögött nélkül óta során szerint számára túl helyett iránt miatt végett illetve valamint
        azonban viszont ugyan bár habár noha míg amíg amint mivel hiszen ugyanis vagyis azaz úgy azért vagyok
        vagyunk vannak voltak lesznek volna tudom tudjuk tudja tud kellene kellett lehetne szabad akarom akar látom
        látjuk látja lásd nézzük nézzem mondja mondjuk adja adjuk adódik kapunk kapjuk kap megy menjünk jelenti
        tartalmaz marad maradt számoljuk számolni kiszámoljuk kiszámítjuk összeadjuk hozzáadjuk kivonjuk
        megszorozzuk szorozzuk szorozni elosztjuk osztjuk osztani ellenőrizzük ellenőrzöm szükség szükséges várj
        várjunk gondolom jutunk írhatnék áll mindig soha gyakran néha tegnap holnap pontosan majdnem körülbelül
        talán valóban egyszerűen tulajdonképpen végül végén elég tovább több kevesebb legalább legfeljebb különben
        igen újra megint együtt jól nagyon sok kevés néhány rendben nulla kettő négy öt hét nyolc kilenc tíz
        tizenegy tizenkettő húsz harminc száz ezer harmadik utolsó fél fele kétszer válasz válaszunk eredmény
        eredményt kérdés kérdést feladat feladatban megoldás szám számot számok összeg összeget rész részben naponta
        hetek óra perc év évek ember emberek ára kerül módon értelme""",
    "fi finnish": """
        vielä kerran siinä siihen niitä mitä jotka jota jonka muuta muita muut eikä olisi sitä heistä mukana kanssa
        ennen ilman samat sama toinen toisen toisella ensimmäinen tehdä saadaan heti myös ja ei jos että ovat mutta
        tai kun niin hän oli joka kuin sitten tämä nyt jokainen yhteensä kaksi kolme ensin koska siis vain voidaan
        pitää päivää päivässä meidän hänen kuinka monta jälkeen tästä nämä nuo tuo tätä tuota niiden näiden siitä
        tähän sillä tällä minä sinä te minun sinun teidän heidän minua häntä meitä heitä joku jokin jotain kukaan
        mikään kaikki kaikkien jokaisen jokaisessa jokaista molemmat molemmilla mikä mitkä missä mistä mihin milloin
        miksi miten kuka ketkä montako paljonko alla aikana edessä kautta keskellä kohti luona mukaan päällä saakka
        sisällä takana vieressä vastaan varten välillä ympärillä yli asti sekä joko vaikka kunnes jotta vaan
        vaikkakin niinpä joten siksi olen olet olemme olette olisivat olivat ollut olla ole voin voi voimme voivat
        voisi voisin voisimme täytyy pitäisi haluan haluaa tiedän tietää tiedämme nähdä näen näemme nähdään
        katsotaan katso sanoo sanotaan tekee tehdään antaa annetaan saamme saa tulee tulevat menee ottaa otetaan jää
        jäävät löytää löydämme tarkoittaa sisältää lasketaan laskemme laskea lasken kerrotaan kertoa lisätään lisätä
        vähennetään vähentää jaetaan jakaa tarkistetaan tarkistaa tarvitaan tarvitse tarvitsemme odota luulen
        päädytään kirjoittaa täällä siellä tuolla silloin aina koskaan usein joskus tänään eilen huomenna tarkalleen
        tarkasti melkein noin ehkä todella oikeastaan lopulta viimein tarpeeksi edelleen enemmän enempää vähemmän
        vähintään enintään muuten kyllä taas uudelleen yhdessä hyvin paljon vähän muutama useita lisäksi nolla yksi
        yhden kahden kolmen neljä viisi kuusi seitsemän kahdeksan yhdeksän kymmenen yksitoista kaksitoista
        kaksikymmentä sata tuhat ensimmäisen ensimmäisestä toisesta kolmas viimeinen puolet puoli kaksinkertainen
        vastaus vastauksen tulos tulokseen tuloksen kysymys kysymyksen tehtävä tehtävässä tehtävän ratkaisu luku
        luvun lukua lukumäärä summa summan osa osasta osan viikko viikkoa tuntia minuuttia vuosi vuotta ihmistä
        henkilöä hinta maksaa tavoilla tavalla järkeä""",
    "tr turkish": """
        biri bunun buna ayrıca değil fakat ancak gerek gerekir gerekiyor aynı başka şey bile öteki diğer kendi bir
        de ise bu ve da var için ile çok gibi daha olarak olan sonra kadar olur eğer ama şu şimdi önce toplam tane
        iki üç dolayısıyla yani çünkü göre üzere bunu kaç gün günde olduğu onun onlar hepsi zaman bunlar şunlar sen
        biz siz bana sana ona bize onlara beni seni onu bizi sizi benim senin bizim sizin birisi kimse hiç hiçbir
        herkes nerede nereden nereye niçin neden nasıl hangi hangisi altında üstünde içinde içine içinden dışında
        önünde arkasında arasında arasındaki üzerinde üzerine yanında karşı doğru beri dolayı rağmen itibaren yerine
        hakkında tarafından ya veya veyahut oysa halbuki lakin mademki ki zira böylece öyleyse bundan demek yine idi
        imiş değildir olmaz olması olsun olsa oldu olmuş olacak olabilir olamaz yok vardı yoktu vardır gerekli lazım
        istiyorum ister biliyoruz biliyorum bilir görüyoruz görelim bakalım bakarsak diyor der dedi yapar yapalım
        yapıyor verir veriyor verilen alır alalım gelir geliyor gider kalır kalan kaldı buluruz bulmak bulalım
        bulunur eder ederiz edelim edersek çıkar çıkıyor varıyoruz demektir içerir içeriyor hesaplayalım hesaplarız
        hesaplamak toplayalım toplarsak toplamak çıkarırsak çıkaralım çarparız çarpalım çarpmak böleriz bölelim
        bölersek kontrol bekle sanırım düşünelim yazabilirdim burada orada şurada hemen hep asla sık bazen bugün dün
        yarın tam tamamen neredeyse yaklaşık belki gerçekten sadece yalnızca aslında sonunda nihayet yeterli fazla
        en evet hayır zaten tekrar birlikte iyi bazı birkaç birçok tamam ayrı sıfır dört beş altı yedi sekiz dokuz
        onbir oniki yirmi otuz kırk elli yüz birinci ikinci üçüncü yarısı yarım katı cevap cevabı sonuç sonucu
        sonuca soru soruda problemi çözüm sayı sayısı sayıyı sayılar toplamı kısım kısmı kısımdan hafta saat dakika
        yıl kişi fiyat fiyatı yol yoldan mantıklı""",
    "vi vietnamese": """
        rất tìm nhau khác đều cả lên chỉ bài đọc xem đúng ra ta và là của có không một các cho được trong với những
        này đó khi để người đã vì vậy nên thì mỗi số chúng tôi nếu phải từ hai bao nhiêu trước đầu tiên bây giờ tổng
        cộng cũng như vào còn lại ngày câu hỏi bằng bạn anh chị em ông bà nó họ mình gì nào đâu sao thế đấy ấy mọi
        từng trên dưới ngoài giữa sau bên cạnh tại ở bởi nhờ qua tới đến cùng hoặc nhưng mà tuy dù mặc dẫu tức nghĩa
        bị đang sẽ vừa mới hãy đừng chớ muốn cần biết thấy hiểu nói làm tính lấy đưa nhận gồm chứa nhân chia trừ
        kiểm tra giả sử gọi đặt chờ nghĩ viết lập đây nay mai hôm luôn thường đôi chính xác gần khoảng lẽ thật thực
        cuối đủ thêm nữa hơn ít nhất nhiều rồi lần tốt quá lắm vài mấy bốn năm sáu bảy tám chín mười mươi trăm nghìn
        triệu thứ nhì nửa gấp đáp án kết quả toán đề lời giải phần tuần phút giá tiền cách lý hợp điều trường""",
    "id indonesian": """
        sama lain agar hanya masih sebuah orang bahwa tetapi namun apakah hasilnya lebih besar di yang untuk dengan
        adalah pada tidak dari dalam ini itu akan atau juga jadi maka karena setiap kita mereka oleh sebagai bisa
        dapat harus berapa jumlah sekarang pertama kemudian setelah jika saya hari tiga dua sudah kami tersebut
        sehingga para aku kamu anda dia ia beliau kalian ku mu nya siapa apa mana dimana kapan mengapa kenapa
        bagaimana seberapa ke atas bawah antara tanpa tentang terhadap bagi hingga sampai sejak selama sepanjang
        menurut demi kepada daripada serta ataupun melainkan sedangkan meskipun walaupun supaya sebab kalau bila
        apabila ketika saat sementara selain lalu lantas ialah merupakan bukan belum jangan telah sedang perlu mau
        ingin boleh mungkin tahu lihat melihat berkata dikatakan membuat buat memberi memberikan diberikan mendapat
        mendapatkan diperoleh menjadi datang pergi tinggal tersisa menghasilkan berarti artinya berisi menghitung
        hitung dihitung menjumlahkan jumlahkan menambahkan tambahkan mengurangi kurangi mengalikan kalikan dikalikan
        membagi dibagi memeriksa periksa menulis menemukan temukan tunggu sini sana situ nanti selalu pernah sering
        kadang besok kemarin tepat tepatnya hampir kira-kira barangkali sungguh sebenarnya akhirnya cukup lagi
        kurang paling ya kembali bersama baik sangat banyak sedikit beberapa semua seluruh masing-masing nol satu
        empat lima enam tujuh delapan sembilan sepuluh sebelas belas puluh ratus ribu kedua ketiga terakhir setengah
        separuh jawaban hasil pertanyaan soal masalah penyelesaian angka bilangan bagian minggu menit tahun harga
        biaya masuk akal""",
}
WORDS = {name.split()[0]: frozenset(words.split()) for name, words in _LISTS.items()}
"""By two-letter code."""
_ELSEWHERE = """a all also am an are as do for give go had half has he her i im in is let me most my no of okay on once
        one or over per problem question six so sum ten to total under was we will"""
ENGLISH_ELSEWHERE = frozenset(_ELSEWHERE.split())
"""English words that another language writes alike: they stand in the English list alone, and tell nothing for it."""
NAMES = dict(name.split() for name in _LISTS) | {
    "zh": "chinese", "ja": "japanese", "ko": "korean", "ru": "russian", "ar": "arabic", "he": "hebrew", "th": "thai",
    "hi": "hindi", "el": "greek", "ka": "georgian", "hy": "armenian", "am": "amharic",
}  # fmt: skip
"""Of every language that is told from others, by its own words or by its script."""
