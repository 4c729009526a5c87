from .config import EngineConfig as EngineConfig
from .engine import AsyncMLCEngine as AsyncMLCEngine
