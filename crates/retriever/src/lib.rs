//! Query to candidates to MaxSim to top-k
