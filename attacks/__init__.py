"""Attacks: each proposes adversarial inputs, none judges itself. One family per file."""

#: registered name -> where the class is
TABLE = {
    "autoattack": "attacks.autoattack:AutoAttack",
    "joint": "attacks.joint:Joint",
    "pgd": "attacks.pgd:PGD",
}
