"""SGLang's dialect: token ids through its own `/generate`, chats through `/v1/chat/completions`.

| file | does |
| --- | --- |
| dialect | puts the others together |
| ask | requests: a chat with ids asked for, token ids to sample from |
| sampling | OpenAI's fields under SGLang's names |
| shapes | the fields of its replies that are read |
| reply | whole replies retold |
| stream | streamed replies retold |
| scores | how likely a prompt is |
"""
