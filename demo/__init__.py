"""How the bundled model was made: problems, training, export, evaluation. See README.md here."""
