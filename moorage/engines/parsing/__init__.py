"""Splitting what a model wrote into content, reasoning and tool calls, by vLLM's own parsers.

The parsers need vLLM and torch, which this package never imports: they run in a process of their own (`program`),
under the engine's Python, started when something is first to be parsed. `names` knows the parsers without vLLM.
"""
