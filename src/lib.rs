//! A gateway for one privileged call.
pub mod admin;
pub mod audit;
pub mod cli;
pub mod config;
pub mod demo;
pub mod downstream;
pub mod gateway;
pub mod outcome;
pub mod php;
pub mod policy;
pub mod proxy;
pub mod quota;
pub mod reason;
pub mod server;
pub mod stand_in;
pub mod telemetry;
pub mod upstream;
