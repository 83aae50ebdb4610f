//! What operators do to a gateway, and what becomes of it: one file per kind of mishap.

mod certificates;
mod explaining;
mod output;
mod page;
mod refusals;
mod resources;
mod spellings;
mod start;
mod statuses;
mod trail;
