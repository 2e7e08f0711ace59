"""Attacks: each proposes adversarial inputs, none judges itself. One family per file."""

#: registered name -> where the class is
TABLE = {
    "apgd": "attacks.apgd:APGD",
    "autoattack": "attacks.autoattack:AutoAttack",
    "fab": "attacks.fab:FAB",
    "fgsm": "attacks.fgsm:FGSM",
    "pgd": "attacks.pgd:PGD",
    "square": "attacks.square:Square",
}
