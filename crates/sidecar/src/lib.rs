//! Doing it for one pod.
