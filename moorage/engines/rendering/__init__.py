"""From messages to the very token ids a model is given, with every token that it sampled before left as it is.

| file | does |
| --- | --- |
| tokenizer | text to ids and back, as the model's own tokenizer does, and without a dummy prefix at a seam |
| template | the model's chat template, in a sandbox |
| conversing | OpenAI messages in the form that templates expect |
| sentinel | marks put in place of sampled turns, and what stands after them |
| tail | what a request adds after a sampled turn, from a short window of the conversation |
| traits | what probes with made-up conversations tell of a template |
| splice | the whole conversation rendered anew around sampled turns |
| textual | prompts of text completions |
| plan | the decision for one request |

Nothing here does input or output, and nothing encodes again what a model sampled.
"""
