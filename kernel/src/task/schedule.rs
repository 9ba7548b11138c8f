//! Tasks in turn on one CPU.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::{Ended, Task, TaskError};
use crate::arch::irq;
use crate::prog::policy;

/// The tasks of one CPU: first come, first served, a turn each, which the CPU's tick ends.
#[derive(Default)]
pub struct Schedule {
    ready: VecDeque<Box<Task>>,
    ended: Vec<Ended>,
}

impl Schedule {
    /// No task.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a task behind the others, and sees that there is room for it to end: running allocates
    /// nothing.
    ///
    /// # Errors
    /// [`TaskError::NoMemory`]; the task is gone.
    pub fn add(&mut self, task: Box<Task>) -> Result<(), TaskError> {
        let ends = self.ready.len() + 1;
        self.ended.try_reserve(ends).map_err(|_| TaskError::NoMemory)?;
        self.ready.try_reserve(1).map_err(|_| TaskError::NoMemory)?;
        self.ready.push_back(task);
        Ok(())
    }

    /// Runs the tasks on this CPU until all have ended, and returns them in that order. IRQs must be
    /// on: without ticks a task would keep the CPU.
    ///
    /// # Panics
    /// If IRQs are masked.
    pub fn run(mut self) -> Vec<Ended> {
        assert!(!irq::is_masked(), "tasks are scheduled by interrupts");
        policy::set_busy(true);
        while let Some(mut task) = self.ready.pop_front() {
            match task.take_turn() {
                // There is room: it was popped a moment ago.
                None => self.ready.push_back(task),
                Some(end) => self.ended.push(task.bury(end)),
            }
        }
        policy::set_busy(false);
        self.ended
    }
}
