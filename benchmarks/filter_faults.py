"""Faults that are planted into real traces, by rule and seed, and texts made to be slow. For `filters.py`."""

import random
import re
from collections.abc import Callable
from dataclasses import replace

from harvest.trace import Candidate

Plant = Callable[[random.Random, Candidate], Candidate]

LATIN: dict[str, list[str]] = {
    "French": [
        "Commençons par lire la question avec soin, car il est facile de se tromper.",
        "Il y a {a} personnes dans la salle et chacune d'elles porte {b} livres.",
        "Nous devons donc multiplier le premier nombre par le second pour trouver le total.",
        "Si on ajoute les {a} autres, on obtient une somme qui est plus grande que {b}.",
        "Ensuite, je vérifie que le résultat est bien celui que l'on attend dans ce genre de problème.",
        "Cela ne change rien à la suite, puisque les deux valeurs sont les mêmes.",
        "Attends, il faut aussi compter ceux qui sont restés à la maison avec leurs parents.",
        "Par conséquent, la réponse que nous cherchons est {a}, et il n'y en a pas d'autre.",
    ],
    "German": [
        "Zuerst lese ich die Aufgabe noch einmal genau durch, damit ich nichts übersehe.",
        "In dem Raum sind {a} Leute, und jeder von ihnen trägt {b} Bücher bei sich.",
        "Wir müssen also die erste Zahl mit der zweiten multiplizieren, um die Summe zu finden.",
        "Wenn man die {a} anderen dazu nimmt, dann ist das Ergebnis größer als {b}.",
        "Danach prüfe ich, ob das Ergebnis auch zu den Angaben in der Aufgabe passt.",
        "Das ändert aber nichts an dem Rest, weil die beiden Werte gleich sind.",
        "Moment, es fehlen noch die, die mit ihren Eltern zu Hause geblieben sind.",
        "Daher ist die Antwort, die wir suchen, {a}, und eine andere gibt es nicht.",
    ],
    "Spanish": [
        "Primero leo la pregunta con cuidado, porque es fácil equivocarse en estos casos.",
        "En la sala hay {a} personas y cada una de ellas lleva {b} libros en la mano.",
        "Entonces tenemos que multiplicar el primer número por el segundo para hallar el total.",
        "Si se suman los otros {a}, el resultado es mayor que {b}, como era de esperar.",
        "Luego compruebo que la respuesta sea la misma que la que se obtiene con el otro método.",
        "Eso no cambia nada de lo que sigue, ya que los dos valores son iguales.",
        "Espera, también hay que contar a los que se quedaron en casa con sus padres.",
        "Por lo tanto, la respuesta que buscamos es {a} y no hay ninguna otra.",
    ],
    "Italian": [
        "Per prima cosa leggo la domanda con attenzione, perché è facile sbagliare.",
        "Nella sala ci sono {a} persone e ognuna di loro porta {b} libri.",
        "Dobbiamo quindi moltiplicare il primo numero per il secondo per trovare il totale.",
        "Se si aggiungono gli altri {a}, il risultato è più grande di {b}.",
        "Poi controllo che la risposta sia quella che ci si aspetta in questo tipo di problema.",
        "Questo non cambia niente di quello che segue, dato che i due valori sono uguali.",
        "Aspetta, bisogna contare anche quelli che sono rimasti a casa con i loro genitori.",
        "Di conseguenza la risposta che cerchiamo è {a}, e non ce ne sono altre.",
    ],
    "Portuguese": [
        "Primeiro leio a pergunta com cuidado, porque é fácil errar nestes casos.",
        "Na sala há {a} pessoas e cada uma delas leva {b} livros na mão.",
        "Então temos de multiplicar o primeiro número pelo segundo para achar o total.",
        "Se somarmos os outros {a}, o resultado é maior do que {b}, como era de esperar.",
        "Depois verifico se a resposta é a mesma que se obtém com o outro método.",
        "Isso não muda nada do que vem a seguir, já que os dois valores são iguais.",
        "Espera, também é preciso contar os que ficaram em casa com os seus pais.",
        "Portanto, a resposta que procuramos é {a} e não há nenhuma outra.",
    ],
    "Dutch": [
        "Eerst lees ik de vraag nog een keer goed door, want je maakt snel een fout.",
        "In de zaal zitten {a} mensen en elk van hen heeft {b} boeken bij zich.",
        "We moeten dus het eerste getal met het tweede vermenigvuldigen om het totaal te vinden.",
        "Als je de andere {a} er nog bij telt, dan is het resultaat groter dan {b}.",
        "Daarna kijk ik of het antwoord ook klopt met wat er in de opgave staat.",
        "Dat verandert niets aan de rest, omdat de twee waarden gelijk zijn.",
        "Wacht, we moeten ook degenen tellen die met hun ouders thuis zijn gebleven.",
        "Daarom is het antwoord dat we zoeken {a}, en een ander is er niet.",
    ],
    "Swedish": [
        "Först läser jag frågan en gång till, för det är lätt att göra ett fel.",
        "I salen finns det {a} personer och var och en av dem har {b} böcker med sig.",
        "Vi måste alltså multiplicera det första talet med det andra för att få summan.",
        "Om man lägger till de andra {a} så blir resultatet större än {b}.",
        "Sedan kontrollerar jag att svaret också stämmer med det som står i uppgiften.",
        "Det ändrar inte något i det som följer, eftersom de två värdena är lika.",
        "Vänta, vi måste också räkna dem som är kvar hemma med sina föräldrar.",
        "Därför är svaret som vi söker {a}, och det finns inte något annat.",
    ],
    "Polish": [
        "Najpierw czytam pytanie jeszcze raz, bo w takich zadaniach łatwo się pomylić.",
        "W sali jest {a} osób i każda z nich ma ze sobą {b} książek.",
        "Musimy więc pomnożyć pierwszą liczbę przez drugą, żeby znaleźć sumę.",
        "Jeśli dodamy jeszcze {a} innych, to wynik jest większy niż {b}.",
        "Potem sprawdzam, czy odpowiedź jest taka sama jak przy drugiej metodzie.",
        "To nie zmienia niczego w tym, co jest dalej, ponieważ obie wartości są równe.",
        "Zaraz, trzeba też policzyć tych, którzy zostali w domu ze swoimi rodzicami.",
        "Dlatego odpowiedź, której szukamy, to {a} i nie ma żadnej innej.",
    ],
    "Turkish": [
        "Önce soruyu bir kez daha dikkatle okuyorum, çünkü hata yapmak çok kolay.",
        "Salonda {a} kişi var ve her biri yanında {b} kitap taşıyor.",
        "Bu yüzden toplamı bulmak için ilk sayı ile ikinci sayıyı çarpmak gerekir.",
        "Eğer diğer {a} tane de eklenirse, sonuç {b} sayısından daha büyük olur.",
        "Sonra bu cevabın öteki yöntem ile bulunan cevap ile aynı olup olmadığına bakıyorum.",
        "Bu, sonrası için bir şey değiştirmez, çünkü iki değer de aynı.",
        "Bekle, evde kalanlar da var ve onları da saymak gerekiyor.",
        "O zaman aradığımız cevap {a} olur ve başka bir cevap yok.",
    ],
    "Vietnamese": [
        "Trước tiên tôi đọc lại câu hỏi một lần nữa, vì rất dễ nhầm trong những bài này.",
        "Trong phòng có {a} người và mỗi người mang theo {b} quyển sách.",
        "Vậy chúng ta phải nhân số thứ nhất với số thứ hai để tìm tổng.",
        "Nếu cộng thêm {a} người khác thì kết quả sẽ lớn hơn {b}.",
        "Sau đó tôi kiểm tra xem câu trả lời có đúng với đề bài hay không.",
        "Điều này không thay đổi gì cho phần sau, vì hai giá trị là như nhau.",
        "Khoan đã, cũng phải đếm những người đã ở nhà với cha mẹ của họ.",
        "Do đó câu trả lời mà chúng ta tìm là {a} và không có câu nào khác.",
    ],
    "Indonesian": [
        "Pertama saya membaca soal ini sekali lagi, karena mudah sekali membuat kesalahan.",
        "Di dalam ruangan itu ada {a} orang dan setiap orang membawa {b} buku.",
        "Jadi kita harus mengalikan bilangan pertama dengan bilangan kedua untuk mencari jumlah.",
        "Jika {a} orang yang lain juga dihitung, maka hasilnya akan lebih besar dari {b}.",
        "Setelah itu saya memeriksa apakah jawaban ini sama dengan yang ada pada soal.",
        "Hal itu tidak mengubah bagian yang lain, karena kedua nilai itu sama.",
        "Tunggu, kita juga harus menghitung mereka yang tidak pergi dan ada di rumah.",
        "Maka jawaban yang kita cari adalah {a} dan tidak ada jawaban yang lain.",
    ],
    "Romanian": [
        "Mai întâi citesc întrebarea încă o dată, pentru că este ușor să greșești.",
        "În sală sunt {a} oameni și fiecare dintre ei are {b} cărți.",
        "Deci trebuie să înmulțim primul număr cu al doilea pentru a afla totalul.",
        "Dacă se adaugă și ceilalți {a}, atunci rezultatul este mai mare decât {b}.",
        "Apoi verific dacă răspunsul este același cu cel care se obține prin cealaltă metodă.",
        "Acest lucru nu schimbă nimic din ce urmează, pentru că cele două valori sunt egale.",
        "Stai, trebuie să numărăm și pe cei care au rămas acasă cu părinții lor.",
        "Prin urmare, răspunsul pe care îl căutăm este {a} și nu există altul.",
    ],
    "Czech": [
        "Nejprve si otázku přečtu ještě jednou, protože je snadné se splést.",
        "V sále je {a} lidí a každý z nich má s sebou {b} knih.",
        "Musíme tedy vynásobit první číslo druhým, abychom našli součet.",
        "Když se přidá ještě {a} dalších, tak je výsledek větší než {b}.",
        "Pak zkontroluji, jestli je odpověď stejná jako ta, která vyjde druhou metodou.",
        "To na zbytku nic nemění, protože jsou obě hodnoty stejné.",
        "Moment, musíme také spočítat ty, kteří byli doma se svými rodiči.",
        "Proto je odpověď, kterou hledáme, {a} a jiná už není.",
    ],
    "Finnish": [
        "Ensin luen kysymyksen vielä kerran, koska siinä on helppo tehdä virhe.",
        "Salissa on {a} ihmistä ja jokaisella heistä on mukana {b} kirjaa.",
        "Meidän pitää siis kertoa ensimmäinen luku toisella, niin saadaan summa.",
        "Jos siihen lisätään vielä {a} muuta, niin tulos on suurempi kuin {b}.",
        "Sitten tarkistan, että vastaus on sama kuin se, joka saadaan toisella tavalla.",
        "Tämä ei muuta sitä, mitä seuraa, koska ne kaksi arvoa ovat samat.",
        "Hetkinen, pitää laskea myös ne, jotka ovat kotona vanhempien kanssa.",
        "Siis vastaus, jota me etsimme, on {a} eikä muita ole.",
    ],
    "Hungarian": [
        "Először még egyszer elolvasom a kérdést, mert könnyű hibázni benne.",
        "A teremben {a} ember van, és mindegyiknél {b} könyv van.",
        "Tehát az első számot meg kell szorozni a másodikkal, hogy megkapjuk az összeget.",
        "Ha még a többi {a} is jön, akkor az eredmény nagyobb, mint {b}.",
        "Aztán megnézem, hogy a válasz ugyanaz-e, mint ami a másik módszerrel lesz.",
        "Ez nem változtat semmit azon, ami ezután jön, mert a két érték egyenlő.",
        "Várjunk, azt is meg kell számolni, aki otthon volt a szüleivel.",
        "Így a válasz, amit keresünk, {a}, és nincs más.",
    ],
}
OTHER: dict[str, list[str]] = {
    "Chinese": [
        "首先我们再读一遍题目，因为这里很容易出错。", "房间里有{a}个人，每个人带了{b}本书。",
        "所以我们需要把第一个数乘以第二个数。", "如果再加上另外{a}个，结果就大于{b}。",
        "然后检查答案是否和题目一致。", "因此我们要找的答案是{a}。",
    ],
    "Russian": [
        "Сначала я ещё раз прочитаю условие, потому что здесь легко ошибиться.",
        "В зале {a} человек, и у каждого из них по {b} книг.",
        "Значит, нужно умножить первое число на второе.", "Если добавить ещё {a}, то результат будет больше {b}.",
        "Затем я проверю, что ответ совпадает с условием.", "Следовательно, искомый ответ равен {a}.",
    ],
    "Japanese": [
        "まず、間違えやすいので問題をもう一度読みます。", "部屋には{a}人がいて、それぞれ{b}冊の本を持っています。",
        "したがって、最初の数に二番目の数を掛ける必要があります。", "さらに{a}人を加えると、結果は{b}より大きくなります。",
        "次に、答えが条件に合っているか確かめます。", "よって、求める答えは{a}です。",
    ],
    "Korean": [
        "먼저 실수하기 쉬우므로 문제를 다시 읽어 보겠습니다.", "방에는 {a}명이 있고 각자 {b}권의 책을 가지고 있습니다.",
        "따라서 첫 번째 수에 두 번째 수를 곱해야 합니다.", "여기에 {a}명을 더하면 결과는 {b}보다 커집니다.",
        "그런 다음 답이 조건과 맞는지 확인합니다.", "그러므로 구하는 답은 {a}입니다.",
    ],
    "Arabic": [
        "أولاً أقرأ السؤال مرة أخرى لأن الخطأ فيه سهل.", "في القاعة {a} شخصاً ومع كل واحد منهم {b} كتب.",
        "إذن يجب أن نضرب العدد الأول في العدد الثاني.", "إذا أضفنا {a} آخرين تصبح النتيجة أكبر من {b}.",
        "ثم أتحقق من أن الجواب يوافق السؤال.", "لذلك فالجواب الذي نبحث عنه هو {a}.",
    ],
    "Hindi": [
        "पहले मैं प्रश्न को फिर से पढ़ता हूँ क्योंकि गलती करना आसान है।", "कमरे में {a} लोग हैं और हर एक के पास {b} किताबें हैं।",
        "इसलिए हमें पहली संख्या को दूसरी से गुणा करना होगा।", "अतः उत्तर {a} है।",
    ],
    "Thai": [
        "ก่อนอื่นอ่านโจทย์อีกครั้งเพราะผิดพลาดได้ง่าย", "ในห้องมี {a} คน แต่ละคนมีหนังสือ {b} เล่ม",
        "ดังนั้นเราต้องคูณจำนวนแรกด้วยจำนวนที่สอง", "เพราะฉะนั้นคำตอบคือ {a}",
    ],
    "Hebrew": [
        "קודם אקרא את השאלה שוב כי קל לטעות בה.", "בחדר יש {a} אנשים ולכל אחד מהם {b} ספרים.",
        "לכן צריך לכפול את המספר הראשון בשני.", "ולכן התשובה שאנו מחפשים היא {a}.",
    ],
    "Greek": [
        "Πρώτα διαβάζω ξανά την ερώτηση, γιατί είναι εύκολο να γίνει λάθος.",
        "Στην αίθουσα υπάρχουν {a} άτομα και το καθένα έχει {b} βιβλία.",
        "Άρα πρέπει να πολλαπλασιάσουμε τον πρώτο αριθμό με τον δεύτερο.", "Επομένως η απάντηση είναι {a}.",
    ],
}  # fmt: skip
STRAY = [
    "然后",
    "所以答案",
    "因为",
    "但是",
    "可能",
    "итак",
    "следовательно",
    "つまり",
    "그래서",
    "因此",
    "其中",
    "也就是说",
]

REFUSALS = [
    "I'm sorry, but I can't help with that.", "I’m sorry, but I can’t assist with that request.",
    "I cannot assist with this request.", "I'm unable to help with this.", "Sorry, but I can't provide that information.",
    "As an AI language model, I cannot answer this question.", "I apologize, but I cannot fulfill this request.",
    "I'm not able to provide assistance with that.", "I must decline to answer this question.",
    "Unfortunately, I can't comply with your request.", "I won't be able to help with that request.",
    "I'm afraid I can't help you with that.", "I do not feel comfortable answering this question.",
    "I am sorry, I am not able to answer this question.", "As an AI, I'm not able to engage in this topic.",
    "I can't discuss this topic.", "I'm sorry, I can't continue with this request.", "I cannot provide an answer to that.",
    "This request goes against my guidelines.", "I'm sorry, but I'm unable to assist you with this task.",
    "It is outside the scope of my capabilities to answer this.", "I will not provide a solution to this question.",
    "I can not help with this question.", "Sorry, I am unable to respond to this prompt.",
    "I'm sorry, but as an AI I cannot do that.", "I regret that I cannot help with this problem.",
    "My apologies, but I cannot complete this task.", "I’m really sorry, but I cannot solve this for you.",
]  # fmt: skip
META = [
    "The reference answer says {g}, so this is right.", "The expected answer is given as {g}.",
    "According to the solution provided, it is {g}.", "Based on the user's hint, the answer should be {g}.",
    "The answer key says {g}.", "As an AI language model, I reason step by step.", "The system prompt tells me to be brief.",
    "This matches the expected answer.", "The ground truth answer is {g}.", "I was given the correct answer, {g}.",
    "The grader expects a box.", "According to the reference solution, we get {g}.", "The hint suggests that the answer is {g}.",
    "Since I am an AI, I cannot draw it.", "From my training data, I know this one.", "The provided answer is {g}, so let me justify it.",
    "The official solution gives {g}.", "I have been instructed to think first.", "The final answer is provided in the prompt as {g}.",
    "It agrees with the answer key.",
]  # fmt: skip
LEAKS = [
    "Answer: {g}", "(answer: {g})", "The answer is {g}.", "Hint: the answer is {g}.", "The correct answer is {g}.",
    "#### {g}", "Reference answer: {g}", "Solution: {g}", "**Answer:** {g}", "Expected answer: {g}", "Final answer: \\boxed{{{g}}}",
    "Ground truth: {g}", "Note: the correct answer is {g}; explain how to get there.", "Gold answer: {g}",
]  # fmt: skip
PARAPHRASES = [
    ["Alternatively, maybe {x} is counted twice. ", "Alternatively, perhaps {x} is counted two times. ",
     "Or maybe {x} was counted twice by mistake. ", "But that would not fit the question. ",
     "However, that does not fit what the question says. "],
    ["Wait, I should check {x} again. ", "Let me check {x} once more. ", "Hmm, let me go over {x} again. ",
     "That seems right. ", "Yes, that seems right to me. ", "Okay. "],
]  # fmt: skip


def _numbers(dice: random.Random) -> dict[str, int]:
    return {"a": dice.randrange(3, 90), "b": dice.randrange(2, 40)}


def _foreign(dice: random.Random, sentences: list[str], count: int) -> str:
    picked = [dice.choice(sentences) for _ in range(count)] if count > len(sentences) else dice.sample(sentences, count)
    return " ".join(s.format(**_numbers(dice)) for s in picked)


def _break(dice: random.Random, text: str) -> int:
    """A place between two sentences, in the middle two thirds."""
    ends = [m.end() for m in re.finditer(r"[.!?\n]\s+", text) if len(text) / 6 < m.end() < 5 * len(text) / 6]
    return dice.choice(ends) if ends else len(text)


def _insert(dice: random.Random, trace: Candidate, words: str) -> Candidate:
    chain = trace.reasoning or ""
    at = _break(dice, chain)
    return replace(trace, reasoning=f"{chain[:at]}{'' if chain[:at][-1:].isspace() else ' '}{words} {chain[at:]}")


def wholly(languages: dict[str, list[str]]) -> Plant:
    def plant(dice: random.Random, trace: Candidate) -> Candidate:
        sentences = dice.choice(list(languages.values()))
        return replace(
            trace,
            reasoning=_foreign(dice, sentences, dice.randrange(4, len(sentences) + 1) if len(sentences) > 4 else 4),
        )

    return plant


def half(languages: dict[str, list[str]]) -> Plant:
    def plant(dice: random.Random, trace: Candidate) -> Candidate:
        chain = trace.reasoning or ""
        at = _break(dice, chain)
        sentences = dice.choice(list(languages.values()))
        return replace(trace, reasoning=chain[:at] + _foreign(dice, sentences, min(8, len(sentences))))

    return plant


def passage(languages: dict[str, list[str]], count: int) -> Plant:
    return lambda dice, trace: _insert(dice, trace, _foreign(dice, dice.choice(list(languages.values())), count))


def _sentence(dice: random.Random, trace: Candidate) -> str:
    sentences = [
        s
        for s in re.split(r"(?<=[.!?])\s+", trace.reasoning or "")
        if 20 < len(s) < 200 and sum(map(str.isalpha, s)) > 15
    ]
    return dice.choice(sentences) if sentences else "So the answer is the one above. "


def loop_at_end(dice: random.Random, trace: Candidate) -> Candidate:
    words = _sentence(dice, trace) + dice.choice([" ", "\n", "\n\n"])
    times = max(dice.randrange(6, 60), 260 // len(words) + 1)
    return replace(trace, reasoning=(trace.reasoning or "") + "\n" + words * times)


def loop_inside(dice: random.Random, trace: Candidate) -> Candidate:
    words = _sentence(dice, trace) + dice.choice([" ", "\n"])
    return _insert(dice, trace, words * max(dice.randrange(5, 40), 260 // len(words) + 1))


def loop_of_paragraphs(dice: random.Random, trace: Candidate) -> Candidate:
    chain = trace.reasoning or ""
    at = dice.randrange(max(1, len(chain) - 900)) if len(chain) > 900 else 0
    return _insert(dice, trace, (chain[at : at + dice.randrange(200, 800)] + "\n\n") * dice.randrange(4, 12))


def loop_of_a_word(dice: random.Random, trace: Candidate) -> Candidate:
    word = dice.choice(["no, ", "wait ", "the ", "yes. ", "ok\n", "and and ", "hmm... ", "24 eggs, "])
    return replace(trace, reasoning=(trace.reasoning or "") + word * dice.randrange(200, 2000))


def counted(dice: random.Random, trace: Candidate) -> Candidate:
    form = dice.choice([
        "Attempt {n}: this does not lead anywhere, so let me try again.\n", "{n}. Let me reconsider the problem from the start.\n",
        "Step {n}: we check the condition again and it holds.\n", "Try {n} fails as well, let me go on with the next one. ",
        "(Check {n}) The result stays the same as before.\n",
    ])  # fmt: skip
    first = dice.randrange(1, 5)
    return _insert(dice, trace, "\n" + "".join(form.format(n=n) for n in range(first, first + dice.randrange(15, 80))))


def paraphrased(dice: random.Random, trace: Candidate) -> Candidate:
    x = dice.choice(["the first group", "the number of items", "the last step", "the second condition"])
    forms = dice.choice(PARAPHRASES)
    return replace(
        trace,
        reasoning=(trace.reasoning or "")
        + "\n"
        + "".join(dice.choice(forms).format(x=x) for _ in range(dice.randrange(80, 200))),
    )


def refuses(dice: random.Random, trace: Candidate) -> Candidate:
    return replace(
        trace, answer=dice.choice(REFUSALS), reasoning=dice.choice([trace.reasoning, None, dice.choice(REFUSALS)])
    )


def refuses_beside(dice: random.Random, trace: Candidate) -> Candidate:
    words = dice.choice(REFUSALS)
    return replace(trace, answer=dice.choice([f"{words}\n\n{trace.answer}", f"{trace.answer}\n\n{words}"]))


def speaks_of_it(dice: random.Random, trace: Candidate) -> Candidate:
    return _insert(dice, trace, dice.choice(META).format(g=dice.randrange(3, 99)))


def leaks(dice: random.Random, trace: Candidate) -> Candidate:
    gold = trace.question.answer or str(dice.randrange(3, 999))
    words = dice.choice(LEAKS).format(g=gold)
    asked = trace.question.question + dice.choice(["\n", " ", "\n\n"]) + words
    question = trace.question.model_copy(update={"question": asked, "answer": gold})
    return replace(trace, question=question, asked=(*trace.asked[:-1], {"role": "user", "content": asked}))


def stray_tag(dice: random.Random, trace: Candidate) -> Candidate:
    tag = dice.choice(
        [
            "</think>",
            "<think>",
            "<|im_end|>",
            "<|im_start|>assistant",
            "<|endoftext|>",
            "<|begin_of_thought|>",
            "<｜end▁of▁sentence｜>",
            "[/INST]",
            "<|eot_id|>",
            "<end_of_turn>",
            "<reasoning>",
            "</s>",
        ]
    )
    return dice.choice(
        [
            _insert(dice, trace, tag),
            replace(trace, answer=f"{trace.answer}\n{tag}"),
            replace(trace, answer=f"{tag}\n{trace.answer}"),
        ]
    )


def no_answer(dice: random.Random, trace: Candidate) -> Candidate:
    return replace(trace, answer=dice.choice(["", " \n", "\n\n"]))


def no_box(dice: random.Random, trace: Candidate) -> Candidate:
    asked = ({"role": "system", "content": "Give the final answer in \\boxed{}."}, *trace.asked)
    return replace(trace, asked=asked, answer=re.sub(r"\\(?:boxed|fbox)", "", trace.answer) or "24")


FAULTS: dict[str, dict[str, Plant]] = {
    "language": {
        "wholly, Latin letters": wholly(LATIN), "wholly, other letters": wholly(OTHER),
        "second half, Latin letters": half(LATIN), "second half, other letters": half(OTHER),
        "five sentences inside, Latin letters": passage(LATIN, 5), "one sentence inside, Latin letters": passage(LATIN, 1),
        "one sentence inside, other letters": passage(OTHER, 1),
        "a stray word": lambda dice, trace: _insert(dice, trace, dice.choice(STRAY)),
    },
    "repetition": {
        "a sentence at the end": loop_at_end, "a sentence inside": loop_inside, "paragraphs inside": loop_of_paragraphs,
        "a word": loop_of_a_word, "with a counter": counted, "paraphrased": paraphrased,
    },
    "refusal": {"the whole answer": refuses, "beside the answer": refuses_beside},
    "meta": {"a sentence of the chain": speaks_of_it},
    "leaked_gold": {"behind the question": leaks},
    "format": {"a stray tag": stray_tag, "no answer": no_answer, "no box where one is asked for": no_box},
}  # fmt: skip

_M = 1_000_000
HOSTILE = {
    "ordinary words": ("the hens of the farm lay " + "two eggs and so on, which makes ") * (_M // 57),
    "one letter": "a" * _M,
    "one space": " " * _M,
    "line breaks": "\n" * _M,
    "quotation marks": '"' * _M,
    "opening braces": "\\boxed{" * (_M // 7),
    "angle brackets": "<" * _M,
    "tags that never end": "<|a" * (_M // 3),
    "backticks": "```\n" * (_M // 4),
    "sorry": "sorry i " * (_M // 8),
    "i cannot": "i cannot i am not able to " * (_M // 26),
    "the answer is": "the answer is " * (_M // 14),
    "hint: hint:": "hint: " * (_M // 6),
    "Chinese": "答案是因为" * (_M // 15),
    "Chinese and Latin by turns": "答a" * (_M // 4),
    "curly quotes": "“a" * (_M // 4),
    "random digits": "".join(random.Random(0).choices("0123456789 ", k=_M)),
    "Fibonacci's word": "",
    "almost the same line": "".join(
        f"the {'x' * (n % 97)} of the hens is not the one that we want\n" for n in range(_M // 90)
    ),
}


def _fibonacci() -> str:
    a, b = "a", "ab"
    while len(b) < _M:
        a, b = b, b + a
    return b[:_M]


HOSTILE["Fibonacci's word"] = _fibonacci()
