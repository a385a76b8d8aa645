"""What is declared and how far it is: users, tokens, models, revisions, events, in one database."""
