"""For programs written for RouteLLM: its controller, its server and its calibration, over edge_router.

In what such a program imports or starts, `routellm` becomes `edge_router.routellm`: its `controller`, its
`openai_server`, its `calibrate_threshold`. guide/routellm.md says what is different.
"""
