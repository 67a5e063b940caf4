//! Integration tests: the built binary, the real kernel, as root.
//!
//! Another runtime is tested by naming it in `TARE_TEST_RUNTIME`: a test that fails on the reference is wrong, or says
//! with `only_tare!` how the reference differs. One binary holds all of them, with modules named like `src/`.

mod bundle;
mod cgroup_tree;
mod cgroups;
mod cli;
mod config_errors;
mod config_schema;
mod confinement;
mod confinement_proc;
mod container;
mod contract;
mod runtime;
mod signals;

mod cve;
mod delete_force;
mod docker;
mod events;
mod exec;
mod failures;
mod faults;
mod foreign_record;
mod hooks;
mod hung;
mod ids;
mod input;
mod inside;
mod kept;
mod kill;
mod leaks;
mod lifecycle;
mod linux;
mod list;
mod locks;
mod log;
mod mounts;
mod notify_socket;
mod pause;
mod pidfd_socket;
mod process;
mod races;
mod relay;
mod run;
mod state_root;
mod stats;
mod systemd;
mod systemd_units;
mod timing;
mod tracer;
mod update;
