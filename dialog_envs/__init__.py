"""Reinforcement learning of dialogue: frozen language models and simulated partners as Gymnasium environments."""

from gymnasium import register

register(
    "DialogEnvs/DATSocial-v0",
    "dialog_envs.envs.dat:make_social",
    vector_entry_point="dialog_envs.envs.dat:make_social_vector",
)
register(
    "DialogEnvs/DATRedTeam-v0",
    "dialog_envs.envs.red_team:make_red_team",
    vector_entry_point="dialog_envs.envs.red_team:make_red_team_vector",
)
register(
    "DialogEnvs/PPG-v0", "dialog_envs.envs.ppg:make_ppg", vector_entry_point="dialog_envs.envs.ppg:make_ppg_vector"
)
register(
    "DialogEnvs/PPGSelect-v0",
    "dialog_envs.envs.ppg_select:make_ppg_select",
    vector_entry_point="dialog_envs.envs.ppg_select:make_ppg_select_vector",
)
register(
    "DialogEnvs/EmpathyIntent-v0",
    "dialog_envs.envs.empathy_intent:make_empathy_intent",
    vector_entry_point="dialog_envs.envs.empathy_intent:make_empathy_intent_vector",
)
register(
    "DialogEnvs/Initiative-v0",
    "dialog_envs.envs.initiative:make_initiative",
    vector_entry_point="dialog_envs.envs.initiative:make_initiative_vector",
)
