"""jinja2: an environment travels as it is; a template is asked of it again, or is its code.

A template that a loader has found by its name is found there by the same loader. One
made ``from_string`` has not kept its source, but what that was compiled to.
"""

from __future__ import annotations

from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.rebuild import Made
from safemp.codec.repairs import RECONSTRUCT, Repair

__all__ = ["table"]


def _template(template: Any) -> Any:
    environment = template.environment
    if template.name is not None and environment.loader is not None:
        return Made(getattr, environment, "get_template"), (template.name,)
    made = {  # not from the globals of its functions: those of a template that has come lack them
        "name": template.name,
        "blocks": template.blocks,
        "debug_info": template._debug_info,
        "root": template.root_render_func,
        "__file__": template.filename,
    }
    outer = {k: v for k, v in template.globals.items() if environment.globals.get(k, template) is not v}
    again = Made(getattr, environment, "make_globals")
    return Made(getattr, type(template), "from_module_dict"), (environment, made, Made(again, outer))


def _cache(cache: Any) -> tuple[Any, ...]:
    return type(cache), (cache.capacity,)


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "the same environment gives it again: from its loader, or from what it was compiled to"
    rules: dict[Any, Repair] = {loaded("jinja2.environment", "Template"): Repair(RECONSTRUCT, why, _template)}
    cache = loaded("jinja2.utils", "LRUCache")
    rules[cache] = Repair(RECONSTRUCT, "a cache of templates; they are compiled again when they are asked for", _cache)
    return rules
