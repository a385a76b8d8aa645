"""What a chat template does to a session, found by trying it before a run.

| file | does |
| --- | --- |
| subject | the template, its tokenizer and the settings of every render; conversations to try |
| voice | what a model would sample, as far as its template shows it |
| rehearsal | a session over a call tree, planned by the renderer itself |
| sessions | ordinary sessions, rehearsed |
| parting | where two texts, and their ids, part |
| growth, dates | what changes text that was written before |
| thinking | think blocks of earlier turns, and headers that open them |
| writing | white space and letters of what was said |
| calls | tools, tool calls and their results |
| roles | who may speak when |
| ends | the first token, the end of a turn, special tokens in texts, names of templates |
| prefill | answers that a client has begun |
| finding | what is reported |
| check | all of it |

A finding's outcomes are what the renderer planned in a rehearsal, so they are what a gateway records.
"""
