"""Hosted and other OpenAI-compatible servers, of which no token ids can be had.

| file | does |
| --- | --- |
| dialect | refuses what needs ids |
| azure | where Azure has its routes, and how it wants its key |
| placeholders | what stands for tokens where that was allowed |
"""
