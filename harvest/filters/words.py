"""The commonest words of languages in Latin letters, lower case: articles, pronouns, prepositions, conjunctions and a
few verbs, as any grammar lists them. They make up a third to a half of running text, and none of names and formulas.

Words that are also English, mathematics or first names (die, pour, plus, sin, dan, ben) stand in no other list: each
was counted in four million words of English questions and chains.
"""

_LISTS = {
    "en english": """the of and to is that it in we be this so for are then but if not as with from or which have
        has on by was an at can there what when they he she his her its their would should could will
        one each all two because since let need also now i you how my me more than other after only
        first wait so's let's that's it's both any some these those does do did just where who been
        into about same no yes find answer""",
    "fr french": """sans sous vers chez autre autres ceux celui celle rien fois dont faire j'ai s'il quand de la
        et en un je les des du une dans est sont pas que qui cette ces il elle nous vous ils elles aux
        avec donc ou où ainsi alors cela ça c'est qu'il qu'on qu'elle d'un d'une l'on n'est été être
        avoir avons faut peut peuvent leur leurs ses chaque même aussi puis puisque lorsque comme très
        entre après avant deux trois nombre chacun tous toutes ensuite encore jour jours combien reste
        calculons soit""",
    "de german": """keine kein beiden andere anderen gleich hier dort ohne gegen um bis seit sehr mehr viel viele
        etwas nichts wer deren hatte waren nochmal ob passt fehlen den er der das und ist ein eine
        einen einem einer des dem mit für von auf nicht sich wir sie ich auch als wie aber oder wenn
        dann nach bei aus zu zum zur durch über unter sind wird werden haben kann können muss müssen
        nur noch schon diese dieser dieses jeder jede jedes jeden insgesamt daher deshalb denn weil
        dass damit zuerst jetzt gibt beträgt zwei drei ihr ihre ihm sein seine""",
    "es spanish": """otro otra otros quienes ninguna ninguno nada aquí mismo misma igual hacer haya lleva de la en
        un lo es con el los las una que por para sus como pero este esta esto ese esa entonces también
        más muy cada uno está están tiene tienen puede debe hemos tenemos vamos ahora primero porque
        cuando donde nos todo todos ellos así luego después cuántos cuántas día días sobre entre hasta
        desde ser fue""",
    "it italian": """senza altro altra altri altre ognuna ognuno stessa stesso niente quello quella quelli quelle
        cui molto già ci dobbiamo sia dato di la un si ha con del il gli della dello degli delle che
        una uno sono più anche questo questa questi quindi allora poi perché ogni nel nella nelle dal
        dalla alla sul sulla hanno abbiamo deve può essere quando dove adesso prima dopo tutti tutto
        loro suo sua suoi cioè quanti quante giorno giorni tre dunque""",
    "pt portuguese": """sem outro outra outros mesma mesmo nada fazer nenhum nenhuma há aqui foram ficaram nossos
        maior preciso de um os da dos em com mais uma não que das nos para por seu sua seus suas ele
        eles elas isso este esta então também cada são está tem têm pode deve foi ser temos vamos
        agora primeiro porque quando onde já ao aos às pelo pela muito até quantos quantas dias depois
        dois duas três como portanto assim""",
    "nl dutch": """ik je geen niets samen tot tegen onder zonder weer hier daar degenen zich wie waar beide nog
        eens de en op te het een dat niet zijn voor aan ook als maar hij ze wij dus bij uit worden
        wordt heeft hebben kunnen moet moeten deze dit elke elk naar eerst twee drie hun haar totaal
        omdat hoeveel dagen geeft""",
    "sv swedish": """finns inte måste få än något någon lägger samma lika hos kvar mot av svaret en den de har om
        vi och att som ett är på med för så eller när från ska också varje alla efter först två tre
        denna detta dessa vara blir eftersom därför där hur många dagar alltså dem deras""",
    "da danish": """der noget nogen samme lige hvis må få kun en er af den de har om vi og som på med ikke hun så
        eller når skal også hver efter først tre denne dette disse være bliver fordi derfor hvor hvad
        mange dage altså deres vil""",
    "no norwegian": """der noe noen samme hvis må få kun mot en er av den de har om vi og som på med ikke hun så
        eller når skal også hver etter først nå tre denne dette disse være blir fordi derfor hvor hva
        mange dager altså deres""",
    "pl polish": """jest też tych którzy nich niej nim ale bo żeby aby będzie można trzeba jednak nad bez sobie
        sobą swoje swoimi taka taki takie sama wszystkich wszystkie obie dalej jeszcze potem inny
        innych żadnej niczego zaraz osób na po nie się że jak czy przez więc tak dla jego jej ich są
        być może tylko który która które ponieważ każdy każda każdego oraz lub gdy kiedy teraz
        najpierw dwa dwie trzy jeśli mamy mają ile dni zatem czyli ze przy także również nam musimy""",
    "cs czech": """si ještě jednou nich ty těch tím ale musíme aby abychom jestli jiná jiný stejná stejné obě nic
        další dalších ve kteří byli na je že za jako který která které jsou být byl může také tak
        podle nebo když protože každý každá každého kolik dva dvě tři pak tedy nejprve teď máme mají
        není jeho její jejich dní ze při už celkem""",
    "ro romanian": """cei cele celor nimic altul aici când unde cum însă nici doar același aceeași încă dată la cu
        de un din și este sunt pentru că să fiecare acum apoi deci dacă atunci avem trebuie poate fost
        lui toate toți două doi trei câte câți zile ziua după despre această acest aceste dintre până
        astfel şi""",
    "hu hungarian": """egyszer benne meg amit azon ugyanaz mindkét aki akik hanem sem itt ott ilyen olyan másik első
        második nincs lenne legyen aztán jön ez ha de az egy és hogy nem azt ezt csak már vagy akkor
        minden kell lehet összesen tehát mert majd még után két három ami amely volt lesz először
        napon így ezért pedig szóval hány ők""",
    "fi finnish": """vielä kerran siinä siihen niitä mitä jotka jota jonka muuta muita muut eikä olisi sitä heistä
        mukana kanssa ennen ilman samat sama toinen toisen toisella ensimmäinen tehdä saadaan heti
        myös ja ei jos että ovat mutta tai kun niin hän oli joka kuin sitten tämä nyt jokainen
        yhteensä kaksi kolme ensin koska siis vain voidaan pitää päivää päivässä meidän hänen kuinka
        monta jälkeen tästä""",
    "tr turkish": """biri bunun buna ayrıca değil fakat ancak gerek gerekir gerekiyor aynı başka şey bile öteki
        diğer kendi bir de ise bu ve da var için ile çok gibi daha olarak olan sonra kadar olur eğer
        ama şu şimdi önce toplam tane iki üç dolayısıyla yani çünkü göre üzere bunu kaç gün günde
        olduğu onun onlar hepsi zaman""",
    "vi vietnamese": """rất tìm nhau khác đều cả lên chỉ bài đọc xem đúng ra ta và là của có không một các cho được
        trong với những này đó khi để người đã vì vậy nên thì mỗi số chúng tôi nếu phải từ hai bao
        nhiêu trước đầu tiên bây giờ tổng cộng cũng như vào còn lại ngày câu hỏi bằng""",
    "id indonesian": """sama lain agar hanya masih sebuah orang bahwa tetapi namun apakah hasilnya lebih besar di yang
        untuk dengan adalah pada tidak dari dalam ini itu akan atau juga jadi maka karena setiap kita
        mereka oleh sebagai bisa dapat harus berapa jumlah sekarang pertama kemudian setelah jika saya
        hari tiga dua sudah kami tersebut sehingga""",
}
WORDS = {name.split()[0]: frozenset(words.split()) for name, words in _LISTS.items()}
"""By two-letter code."""
NAMES = dict(name.split() for name in _LISTS) | {
    "zh": "chinese", "ja": "japanese", "ko": "korean", "ru": "russian", "ar": "arabic", "he": "hebrew", "th": "thai",
    "hi": "hindi", "el": "greek", "ka": "georgian", "hy": "armenian", "am": "amharic",
}  # fmt: skip
"""Of every language that is told from others, by its own words or by its script."""
