"""A spec as YAML that can be posted again."""

from __future__ import annotations

from moorage.serving.spec.scalars import plain_scalar
from moorage.serving.spec.spec import ServingSpec

__all__ = ["spec_yaml"]


def spec_yaml(spec: ServingSpec) -> str:
    """Every field with its value, defaults too, in the order of the API's documents. `read_document` reads it back."""
    import yaml

    class Plain(yaml.SafeDumper):
        """Writes no anchors and no tags, and quotes every word that some version of YAML reads as something else."""

        def ignore_aliases(self, _: object) -> bool:
            return True

        def represent_text(self, text: str) -> yaml.ScalarNode:
            style = None if plain_scalar(text) == text else "'"
            return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Plain.add_representer(str, Plain.represent_text)
    return yaml.dump(spec.to_dict(), Dumper=Plain, sort_keys=False, allow_unicode=True, width=10_000)
