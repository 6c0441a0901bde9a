"""The pure core: `step(state, event, *, now_s, uniform) -> (state, effects)`. No clock, no chance, no I/O."""
