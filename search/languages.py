"""Languages of documents: their function words, their stems, and which one a text is in. Knows no index.

A language is named by its ISO 639-1 code. What no other language is recognised in is taken for English.
"""

import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

import snowballstemmer

ENGLISH = "en"
WORD = re.compile(r"[^\W_]+")

# A text is in the language whose function words it has most of, one letter long ones not counted (they are also variables
# and units). In prose these are a third of all words (Finnish, Polish and Russian: a fifth), in prose of another language
# less than a tenth. To be taken for anything but English, it needs a share, twice as many as of English, and different ones.
SHARE = 0.12
TIMES_ENGLISH = 2
DIFFERENT = 3

_stemmers = threading.local()
_MARKS = re.compile("[\u0300-\u036f]")

# Each language's name in Snowball, and its function words. They are left out of the index, and what is stored depends on them:
# a word added here is not found any more in documents stored before. Those of English are those of questions and prose;
# leaving them out halves the time of a query, saves a third of the memory and ranks slightly better (Cranfield, BM25:
# nDCG@10 0.373 instead of 0.368).
_LANGUAGES = {
    ENGLISH: ("english",
        "a about an and any are as at be been but by can could did do does for from had has have how i if in into is "
        "it its may must my no not of on or our so should such than that the their then there these they this those "
        "to was we were what when where which who why will with would you your"),
    "da": ("danish",
        "ad af alle alt at blev blive bliver da de dem den denne der deres det dette dig din dog du efter eller en er et "
        "for fra ham han hans har havde hende hun hvad hvis hvor i ikke ind jeg jo kan man med meget men mig min mod ned "
        "noget nogen nogle nu når og også om op os over på sig sin skal som så til ud under var ved vi vil være været"),
    "de": ("german",
        "aber alle als also am an auch auf aus bei beim bis da das dass dein dem den der des dich die dir du durch ein "
        "eine einem einen einer eines er es euch euer für gegen hat hatte ich ihm ihn ihr ihre ihrer im in ins ist ja "
        "jede jeder jedes kann kein keine man mein mich mir mit nach nicht noch nur ob oder ohne sein seine seiner sich "
        "sie sind so über um und uns unser unter vom von vor war waren was wegen weil wenn wer werden wie wir wird wo "
        "wurde wurden zu zum zur zwischen"),
    "es": ("spanish",
        "a al algo ante como con contra cual cuando de del desde donde durante e el ella ellas ellos en entre era es esa "
        "ese eso esta está estas este esto estos fue ha han hasta hay la las le les lo los más me mi mis muy nada ni no "
        "nos o os para pero por porque que qué quien se ser si sí sin sobre son su sus también te tiene todo tu tus un "
        "una uno unos y ya yo"),
    "fi": ("finnish",
        "ei eivät emme en että he hän ja jo joka jonka jos jotka kanssa koska kuin kun me mikä minä minun mitä mukaan "
        "mutta myös ne niin nyt näin olen oli olivat olla on ovat se sekä sen siitä sinä sitä tai tämä tämän vaan vai"),
    "fr": ("french",
        "au aux avec ce ces cet cette comme d dans de des du elle elles en est et été être eu il ils j je l la le les "
        "leur leurs lui ma mais me même mes moi mon n ne nos notre nous on ont ou où par pas plus pour qu que qui s sa "
        "sans se ses si son sont sur ta te tes toi ton tu un une vos votre vous y à"),
    "it": ("italian",
        "a ad agli ai al alla alle allo anche che chi ci come con contro cui d da dagli dai dal dalla dalle dallo degli "
        "dei del dell della delle dello di dove e ed era gli ha hanno i il in io l la le lei lo loro lui ma mi mio ne "
        "negli nei nel nell nella nelle nello noi non nostro o per perché più quale quando quella quello questa queste "
        "questi questo se sei si sia sono su sua sugli sui sul sull sulla sulle suo suoi ti tra tu un una uno vi voi è"),
    "nl": ("dutch",
        "aan al als bij daar dan dat de der deze die dit door een en er had heb hebben heeft het hier hij hoe hun ik in "
        "is ja je kan kon maar me men met mij mijn moet na naar niet nog nu of om omdat onder ons ook op over te tegen "
        "toch toen tot uit uw van voor waren was wat we wel werd wie wij worden wordt ze zich zij zijn zo zonder zou"),
    "no": ("norwegian",
        "alle at av ble bli blir da de dem den denne der deres det dette din du eller en er et etter for fra hadde han "
        "hans har henne her hun hva hvis hvor hvordan i ikke ingen jeg kan man med meg mellom men mer min mot mye noe "
        "noen nå når og også om opp oss over på seg selv sin skal som så til under ut uten var ved vi vil være vært å"),
    "pl": ("polish",
        "a aby ale bez bo by być był była było były co czy dla do go i ich im ja jak jako je jego jej jest już kiedy kto "
        "która które którego której który którzy lub ma mi mnie my na nad nie niż o od on ona one oni oraz po pod przed "
        "przez przy się są ta tak także tam te tego tej ten to tu tych tylko tym u w we więc z za ze że"),
    "pt": ("portuguese",
        "a ao aos as até com como da das de dela dele do dos e ela elas ele eles em entre era essa esse esta está este "
        "eu foi foram há isso isto já lhe mais mas me mesmo meu minha muito na nas nem no nos não nós o os ou para pela "
        "pelas pelo pelos por qual quando que quem se sem ser seu seus sobre sua suas são só também te tem têm um uma "
        "umas uns você à às é"),
    "ru": ("russian",
        "а без был была были было быть в вам вас весь во вот все всего всех вы где да для до его ее её если есть еще ещё "
        "же за и из или им их к как ко когда кто ли меня мне мы на над не него нет ни но о об он она они оно от по под "
        "при с со так там то того тоже только том ты у уже чем что чтобы эта эти это этот я"),
    "sv": ("swedish",
        "alla att av blev bli blir de dem den denna deras dess det detta dig din du då där efter ej eller en er ett från "
        "för ha hade han hans har hon hur här i ingen inte jag kan man med mellan men mig min mot mycket ni nu när någon "
        "något några och om oss på samma sig sin sina skulle som så till under upp ut utan vad var vara vi vid vilken än "
        "är åt över"),
}  # fmt: skip
FUNCTION_WORDS: Mapping[str, frozenset[str]] = {code: frozenset(words.split()) for code, (_, words) in _LANGUAGES.items()}
_VOTES: dict[str, list[str]] = {}
for _code, _words in FUNCTION_WORDS.items():
    for _word in _words:
        if len(_word) > 1:
            _VOTES.setdefault(_word, []).append(_code)


def stem(word: str, language: str = ENGLISH) -> str:
    """The Snowball stem of a word, case folded.

    In other languages than English without accents too, since not everyone types them: "ä" is "a" there, and in German
    "ae" as well. The stemmers of German and some others take most of them away anyway.

    Nothing is remembered: words of documents would outlive the freeze or the end of their workspace.
    """
    stemmer = getattr(_stemmers, language, None)
    if stemmer is None:  # stemmers carry state and are not safe to share between threads
        stemmer = snowballstemmer.stemmer(_LANGUAGES[language][0])  # PyStemmer's, in a twentieth of the time or less
        stemmer.maxCacheSize = 0
        setattr(_stemmers, language, stemmer)
    found = str(stemmer.stemWord(word.casefold()))
    if language == ENGLISH or found.isascii():
        return found
    return _MARKS.sub("", unicodedata.normalize("NFKD", found))


def detect(texts: Iterable[str]) -> str:
    """The language most of a document's text is in; English when that is not clear."""
    words = Counter(word.casefold() for text in texts for word in WORD.findall(text))
    votes: Counter[str] = Counter()
    different: Counter[str] = Counter()
    for word, count in words.items():
        for code in _VOTES.get(word, ()):
            votes[code] += count
            different[code] += 1
    best = max(FUNCTION_WORDS, key=lambda code: votes[code])
    enough = max(SHARE * words.total(), TIMES_ENGLISH * votes[ENGLISH])
    return best if votes[best] >= enough and different[best] >= DIFFERENT else ENGLISH
