"""The toy vector environment under an id, for workers in other processes."""

import gymnasium as gym

gym.register("RayToy-v0", vector_entry_point="tests.agents.conftest:ToyVectorEnv")
