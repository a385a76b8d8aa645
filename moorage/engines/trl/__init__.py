"""The dialect of TRL's vLLM server (`trl vllm-serve`): `/chat/` and `/generate/`, ids and log probabilities, no text.

| file | does |
| --- | --- |
| dialect | puts the others together |
| ask | requests from messages, text and token ids |
| reply | its replies retold, text and ends made of the ids |
"""
