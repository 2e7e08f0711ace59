"""Attacks: each proposes adversarial inputs, none judges itself. One family per file."""

#: registered name -> where the class is
TABLE = {
    "apgd": "attacks.apgd:APGD",
    "autoattack": "attacks.autoattack:AutoAttack",
    "brendel-bethge": "attacks.minimal:BrendelBethge",
    "corruption": "attacks.corruption:Corruption",
    "cw": "attacks.minimal:CarliniWagner",
    "ddn": "attacks.minimal:DDN",
    "deepfool": "attacks.minimal:DeepFool",
    "fab": "attacks.fab:FAB",
    "fgsm": "attacks.fgsm:FGSM",
    "joint": "attacks.joint:Joint",
    "pgd": "attacks.pgd:PGD",
    "replay": "attacks.replay:Replay",
    "square": "attacks.square:Square",
    "stadv": "attacks.stadv:StAdv",
}
