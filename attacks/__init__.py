"""Attacks: each proposes adversarial inputs, none judges itself. One family per file."""

#: registered name -> where the class is
TABLE = {
    "autoattack": "attacks.autoattack:AutoAttack",
    "brendel-bethge": "attacks.minimal:BrendelBethge",
    "corruption": "attacks.corruption:Corruption",
    "cw": "attacks.minimal:CarliniWagner",
    "ddn": "attacks.minimal:DDN",
    "deepfool": "attacks.minimal:DeepFool",
    "pgd": "attacks.pgd:PGD",
    "replay": "attacks.replay:Replay",
    "stadv": "attacks.stadv:StAdv",
}
