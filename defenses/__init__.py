"""Defenses: each purifies images before an unchanged classifier sees them. One family per file."""

#: registered name -> where the class is
TABLE = {
    "diffpure": "defenses.diffpure:DiffPure",
    "dmae": "defenses.dmae:DMAE",
    "mae-pure": "defenses.mae_pure:MAEPure",
    "none": "defenses.none:Undefended",
}
