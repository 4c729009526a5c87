"""`edge_router.prompts.template` under the name by which it has been imported so far."""

from edge_router.prompts.template import ChatTemplate, Template, TemplateLimits

__all__ = ["ChatTemplate", "Template", "TemplateLimits"]
