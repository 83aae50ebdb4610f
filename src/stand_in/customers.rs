//! Who is known, and whose lock is on.

use std::sync::atomic::{AtomicBool, Ordering};

/// What a customer can be looked up by, in the order in which it is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CustomerKey {
    CustomerId,
    SubscriptionId,
    Orderid,
}

impl CustomerKey {
    pub(super) const ALL: [Self; 3] = [Self::CustomerId, Self::SubscriptionId, Self::Orderid];

    /// The name of the parameter.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CustomerId => "customer_id",
            Self::SubscriptionId => "subscription_id",
            Self::Orderid => "orderid",
        }
    }
}

/// How a customer is locked at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    /// Locked, and locked again as soon as it is unlocked.
    Recurring,
    /// Locked until it is unlocked.
    On,
    /// Not locked.
    Off,
}

struct Customer {
    customer_id: u32,
    subscription_id: u32,
    orderids: &'static [u32],
    lock: Lock,
}

const CUSTOMERS: [Customer; 5] = [
    customer(191, 5191, &[90191, 90291], Lock::Recurring),
    customer(192, 5192, &[90192], Lock::On),
    customer(193, 5193, &[90193], Lock::On),
    customer(194, 5194, &[90194], Lock::Off),
    customer(195, 5195, &[90195, 90295], Lock::Off),
];

const fn customer(customer_id: u32, subscription_id: u32, orderids: &'static [u32], lock: Lock) -> Customer {
    Customer { customer_id, subscription_id, orderids, lock }
}

impl Customer {
    fn is(&self, key: CustomerKey, value: &[u8]) -> bool {
        let value = leading_number(value);
        let is = |id: &u32| f64::from(*id) == value;
        match key {
            CustomerKey::CustomerId => is(&self.customer_id),
            CustomerKey::SubscriptionId => is(&self.subscription_id),
            CustomerKey::Orderid => self.orderids.iter().any(is),
        }
    }
}

/// What a number column of MariaDB's reads text as: as much of it as is a number, else 0.
fn leading_number(text: &[u8]) -> f64 {
    let text = text.trim_ascii_start();
    let end = text.iter().position(|byte| !b"+-.0123456789eE".contains(byte)).unwrap_or(text.len());
    let prefixes = (1..=end.min(64)).rev().map(|end| &text[..end]);
    prefixes.filter_map(|prefix| str::from_utf8(prefix).ok()?.parse().ok()).next().unwrap_or(0.0)
}

/// What came of an attempt to unlock.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unlock {
    Done,
    NotLocked,
    Unknown,
}

/// The customers, and which of them have been unlocked.
#[derive(Debug, Default)]
pub(super) struct Customers {
    unlocked: [AtomicBool; CUSTOMERS.len()],
}

impl Customers {
    /// Unlocks the customer that `value` names.
    pub(super) fn unlock(&self, key: CustomerKey, value: &[u8]) -> Unlock {
        let found = CUSTOMERS.iter().zip(&self.unlocked).find(|(customer, _)| customer.is(key, value));
        let Some((customer, unlocked)) = found else { return Unlock::Unknown };
        let was_locked = match customer.lock {
            Lock::Recurring => true,
            Lock::On => !unlocked.swap(true, Ordering::Relaxed),
            Lock::Off => false,
        };
        if was_locked { Unlock::Done } else { Unlock::NotLocked }
    }
}
