//! `linux.cgroupsPath` and `linux.resources`: where the container's processes are counted and limited.
