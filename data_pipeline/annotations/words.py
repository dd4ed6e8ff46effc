"""What the words of a label say: a kind, nothing, or something that only the user can tell.

A label is taken as a kind only if every word of it is known. Negations come in every language and in more forms than
anyone lists ("non-metastatic", "keine Metastase", "lesion free"), but each of them brings a word that is not known
here: such labels are never guessed at.
"""

from __future__ import annotations

import enum
import re
import unicodedata

_KINDS = {
    "lesions": "lesion lesions metastasis metastases metastatic met mets malignant malignancy abnormal tumor tumors "
    "tumour tumours neoplasm neoplasms neoplastic cancer carcinoma bm mask masks seg segmentation label labels "
    "annotation annotations gt truth groundtruth metastase metastasen metastatisch lasion lasionen laesion laesionen "
    "tumoren lesions metastatique tumeur tumeurs lesione lesioni metastasi metastatico metastatica tumore tumori "
    "lesiones metastatica tumores lesao lesoes metastaticas leesie leesies laesies metastaser leesje przerzut "
    "przerzuty 病变 病灶 转移 转移灶 骨转移 転移 骨転移 병변 전이 метастаз метастазы очаг очаги",
    "benign": "benign normal physiological physiologic degenerative degeneration benigne benigno benigna gutartig "
    "degenerativ physiologisch physiologique fisiologico fisiologica",
}
# Say where, how large or how hot something is, never whether it is.
_NEUTRAL = """
a an the in of on at and with de la le les el los las du des der die das dem den di del della do da em en bone
bones bony osseous skeletal skeleton knochen os osseuse osea ossea osseo hueso left right upper lower middle
proximal distal anterior posterior lateral medial side bilateral l r lt rt links rechts skull cranium calvarium
mandible maxilla head neck spine spinal column cervical thoracic lumbar sacral vertebra vertebrae vertebral body
sacrum coccyx pelvis pelvic ilium iliac ischium pubis acetabulum rib ribs costal sternum manubrium clavicle
scapula shoulder humerus humeral radius ulna elbow wrist hand hip femur femoral knee patella tibia tibial fibula
ankle foot leg arm limb shaft neck trochanter base arch process crest joint sacroiliac hot spot spots hotspot
focus foci focal uptake area region roi object segment segments structure tissue instance number nr id blob
component contour outline polygon osteoblastic blastic osteolytic lytic sclerotic mixed small large big tiny
single multiple solitary diffuse primary secondary suspicious suspected morphologically morphology anatomical c d
th t s b e f g h i j k o p q u v w y z
"""
_SILENT = """
segment segments roi region object structure tissue instance number nr id blob
"""
# What a drawn region certainly is not, whatever the tool calls it.
BACKGROUND = {"background", "bg", "hintergrund", "fond", "fondo", "sfondo", "arriere", "unlabeled", "clear"}
_KIND_OF_WORD = {_word: _kind for _kind, _words in _KINDS.items() for _word in _words.split()}
_KNOWN = {*_KIND_OF_WORD, *_NEUTRAL.split()}
_NEGATIONS = """
no non not none without free negative neg absent absence false never nil kein keine keinen keiner nicht ohne sans
pas aucun aucune sin ninguna ninguno nao sem nenhum nenhuma senza nessuna nessun geen niet zonder ikke ingen uden
inte inga utan bez nie brak exclude excluded un anti ruled out unlikely 无 非 没有 なし 没 нет не без 없음
"""
_NEGATING_PREFIX = re.compile(r"(?:non|not|no|un|nicht)(?P<rest>.+)")
# `-lesion`, `lesion-`, `lesion (-)`, `!lesion`, `lesion: 0`, `0 lesions`, and signs that stand for "not".
_NEGATING_SIGN = re.compile(
    r"^\s*[-−–!~^]|[-−–]\s*$|\(\s*[-−–]\s*\)|[=:]\s*0+\b|^\s*0+\s+\D|[!¬~^✗✘❌⊘∅]|"
    r"\b[mn]0\b|\br\s*/\s*o\b",
    re.IGNORECASE,
)


_UNCERTAIN = re.compile("[?？¿؟]")  # a reader who asks has not decided


class Says(enum.Enum):
    """What a label says where it names no kind."""

    NOTHING = "nothing"
    NEGATED = "negated"
    UNKNOWN = "unknown"


def words_of(text: str) -> list[str]:
    """Small letters without accents, split at everything that is no letter and where lower case turns to upper."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    plain = unicodedata.normalize("NFC", plain)
    runs = re.findall(r"[^\W\d_]+", plain)
    parts = [re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", run) if run.isascii() else [run] for run in runs]
    return [word.lower() for run in parts for word in run]


def meaning(text: str) -> str | Says:
    """Kind that a label names, if every word of it is known and its words name one kind."""
    words = words_of(text)
    if _NEGATING_SIGN.search(text) or any(word in _NEGATIONS.split() or _negates(word) for word in words):
        return Says.NEGATED
    if _UNCERTAIN.search(text):
        return Says.UNKNOWN
    if all(word in _SILENT.split() for word in words):
        return Says.NOTHING
    found = {_KIND_OF_WORD[word] for word in words if word in _KIND_OF_WORD}
    return found.pop() if len(found) == 1 and set(words) <= _KNOWN else Says.UNKNOWN


def is_background(text: str) -> bool:
    """Whether a label is a word for what no one drew."""
    words = words_of(text)
    return bool(words) and set(words) <= BACKGROUND


def _negates(word: str) -> bool:
    match = _NEGATING_PREFIX.fullmatch(word)
    return match is not None and match["rest"] in _KIND_OF_WORD
