"""From messages to the very token ids a model is given, with every token that it sampled before left as it is.

| file | does |
| --- | --- |
| tokenizer | text to ids and back, as the model's own tokenizer does, and without a dummy prefix at a seam |
| seams, pieces | tokenizer files without their dummy prefix; the bytes that a token stands for |
| template | the model's chat template, in a sandbox |
| conversing | OpenAI messages in the form that templates expect |
| escaping | special tokens in what users say, as plain text |
| sentinel | marks put in place of sampled turns, and one render around them |
| tail | what a request adds after a sampled turn, from a short window of the conversation |
| trace, tracing | a template run over texts that note what it does with them |
| forms, shapes | tails that are known from such a run, for every conversation of the same form |
| borders | where a text can be cut so that both sides encode alone |
| traits | what probes with made-up conversations tell of a template |
| thoughts | what a model thought, where templates leave it out of earlier turns |
| splice | the whole conversation rendered anew around sampled turns |
| textual | prompts of text completions |
| ask, plan | a request, and the decision for it |

Nothing here does input or output, and nothing encodes again what a model sampled.
"""
