from edge_router.chat.request import Need
from edge_router.config.settings import Config
from edge_router.engines import strong_engines, weak_engines
from edge_router.engines.remote.engine import OpenAIEngine
from edge_router.engines.scripted import ScriptedEngine
from edge_router.types import SilentProgress


def test_names():
    assert tuple(weak_engines()) == ("mlc", "remote", "scripted", "tvm", "webgpu")
    assert tuple(strong_engines()) == ("openai", "scripted")


def test_asking_for_a_name_makes_the_engine(paths):
    config = Config.load(overrides={"strong.model": "m", "weak.context_window_size": 9})
    made = [
        strong_engines().get("openai")(config, paths, SilentProgress()),
        strong_engines().get("scripted")(config, paths, SilentProgress()),
        weak_engines().get("scripted")(config, paths, SilentProgress()),
    ]
    assert [type(engine) for engine in made] == [OpenAIEngine, ScriptedEngine, ScriptedEngine]
    assert [engine.model_id for engine in made] == ["m", "m", "scripted-weak"]
    assert [Need.TOOLS in engine.capabilities.serves for engine in made] == [True, True, False]
    assert made[2].capabilities.context_window == 9
    for engine in made:
        engine.close()


def test_registries_are_made_anew():
    registry = weak_engines()
    registry.add("mine", ScriptedEngine)
    assert "mine" not in weak_engines()


def test_every_factory_of_ours_that_needs_no_compiler_imports_nothing_heavy(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys; from edge_router.engines import strong_engines, weak_engines; strong_engines().get('openai');"
        "weak_engines().get('scripted'); bad = {'openai', 'httpx', 'keyring', 'tvm', 'torch'} & set(sys.modules);"
        "sys.exit(' '.join(bad) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
