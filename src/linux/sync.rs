//! Locks without poison.

use std::sync::Mutex;

/// A panic while the lock was held aborts the process, so a poisoned lock cannot be met.
pub fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
