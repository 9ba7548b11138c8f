//! From the text of a litmus test to its value.
//!
//! As much of herd7's language as the tests of this folder speak: a head, the initial state in braces, a
//! table with a column for each thread and each abort handler, and the `exists` clause.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::condition::Condition;
use crate::expect::Expected;
use crate::insn::{Constant, Context, register};
use crate::test::{Entry, Needs, Page, Place, REGISTERS, Test, Thread, Value};

/// Most instructions of a thread.
const INSNS: usize = 32;

/// Reads the test that `expected` names.
///
/// # Errors
/// What in `text` is not as it must be.
pub fn parse<'a>(expected: Expected<'a>, text: &str) -> Result<Test<'a>, String> {
    let name = expected.name;
    test(expected, &without_comments(text)).map_err(|why| format!("{name}: {why}"))
}

fn test<'a>(expected: Expected<'a>, text: &str) -> Result<Test<'a>, String> {
    let (head, rest) = text.split_once('{').ok_or("no initial state")?;
    let (state, rest) = rest.split_once('}').ok_or("the initial state does not end")?;
    let (table, exists) = rest.split_once("exists").ok_or("no exists clause")?;
    let mut head = head.lines().map(str::trim).filter(|line| !line.is_empty());
    if head.next() != Some(&format!("AArch64 {}", expected.name)) {
        return Err("its first line is not its name".into());
    }
    let needs = needs(head)?;
    let columns = columns(table)?;
    let count = columns.iter().filter(|column| !column.handler).count();
    let mut slot = Entry::Empty;
    let mut threads = vec![Thread::default(); count];
    let mut contexts: Vec<_> =
        (0..count).map(|_| Context { constants: [None; REGISTERS], labels: Vec::new() }).collect();
    for statement in state.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        if let Some(variable) = statement.strip_prefix("int ") {
            initial_word(variable)?;
            continue;
        }
        let (left, right) = statement.split_once('=').ok_or_else(|| odd(statement))?;
        if left == "[PTE(a)]" {
            slot = entry(right).ok_or_else(|| odd(statement))?;
            continue;
        }
        let (thread, reg) = thread_register(left, count).ok_or_else(|| odd(statement))?;
        match (place(right), value(right)) {
            (Some(place), _) => {
                contexts[thread].constants[usize::from(reg)] = Some(Constant::Address(place));
            }
            (None, Some(value)) => threads[thread].registers.push((reg, value)),
            (None, None) => return Err(odd(statement)),
        }
    }
    for (index, (thread, context)) in threads.iter_mut().zip(&mut contexts).enumerate() {
        assemble(thread, context, columns.iter().filter(|column| column.thread == index))?;
    }
    let mut reader = Reader { rest: exists.trim(), contexts: &contexts };
    let exists = reader.any()?;
    if !reader.rest.is_empty() {
        return Err(odd(reader.rest));
    }
    Ok(Test { expected, needs, slot, threads, exists })
}

fn odd(text: &str) -> String {
    format!("not understood: {text}")
}

fn without_comments(text: &str) -> String {
    let mut pieces = text.split("(*");
    let mut clean = pieces.next().unwrap_or_default().to_string();
    pieces.filter_map(|piece| piece.split_once("*)")).for_each(|(_, after)| clean.push_str(after));
    clean
}

/// What the lines between the name and the initial state ask for. A handler is seen in the table.
fn needs<'t>(lines: impl Iterator<Item = &'t str>) -> Result<Needs, String> {
    let mut needs = Needs::Nothing;
    for line in lines {
        match line {
            "TTHM=HA HD" => needs = Needs::DirtyState,
            "Variant=handled" => {}
            "Variant=ets2" | "Variant=handled,ets2" => needs = Needs::Ets2,
            _ => return Err(odd(line)),
        }
    }
    Ok(needs)
}

/// `a=0`, `s=5` and so on: every machine begins with these.
fn initial_word(variable: &str) -> Result<(), String> {
    match variable {
        "a=0" | "s=5" | "p=7" | "q=9" | "f=0" => Ok(()),
        _ => Err(odd(variable)),
    }
}

/// A column of the table.
struct Column<'t> {
    thread: usize,
    handler: bool,
    cells: Vec<&'t str>,
}

fn columns(table: &str) -> Result<Vec<Column<'_>>, String> {
    let mut rows = table.split(';').map(|row| row.split('|').map(str::trim));
    let mut columns = Vec::new();
    for head in rows.next().ok_or("no table")? {
        let (name, handler) = head.strip_suffix(".F").map_or((head, false), |name| (name, true));
        let thread = name.strip_prefix('P').and_then(|number| number.parse().ok());
        let thread = thread.ok_or_else(|| odd(head))?;
        columns.push(Column { thread, handler, cells: Vec::new() });
    }
    let programs = columns.iter().filter(|column| !column.handler).map(|column| column.thread);
    if !programs.clone().eq(0..programs.count()) {
        return Err("its threads are not numbered from 0 on".into());
    }
    for row in rows {
        for (column, cell) in columns.iter_mut().zip(row) {
            column.cells.push(cell);
        }
    }
    Ok(columns)
}

/// Labels first, since branches go forward.
fn assemble<'t, 'c: 't>(
    thread: &mut Thread,
    context: &mut Context<'c>,
    columns: impl Iterator<Item = &'t Column<'c>> + Clone,
) -> Result<(), String> {
    let mut count = 0;
    for column in columns.clone() {
        if column.handler {
            thread.handler = count;
        }
        for cell in &column.cells {
            match cell.strip_suffix(':') {
                Some(label) => context.labels.push((label, count)),
                None => count += usize::from(!cell.is_empty()),
            }
        }
        if !column.handler {
            thread.handler = count;
        }
    }
    if count > INSNS {
        return Err(format!("{count} instructions are too many"));
    }
    for cell in columns.flat_map(|column| &column.cells) {
        if !cell.is_empty() && !cell.ends_with(':') {
            thread.insns.push(context.decode(cell)?);
        }
    }
    Ok(())
}

/// `0:X5`.
fn thread_register(text: &str, threads: usize) -> Option<(usize, u8)> {
    let (thread, reg) = text.split_once(':')?;
    let thread = thread.parse().ok().filter(|thread| *thread < threads)?;
    Some((thread, register(reg).ok()?))
}

/// An address.
fn place(text: &str) -> Option<Place> {
    match text {
        "a" => Some(Place::A),
        "PTE(a)" => Some(Place::Slot),
        "f" => Some(Place::Flag),
        _ => page(text).map(Place::Page),
    }
}

fn page(text: &str) -> Option<Page> {
    match text {
        "s" => Some(Page::S),
        "p" => Some(Page::P),
        "q" => Some(Page::Q),
        _ => None,
    }
}

fn value(text: &str) -> Option<Value> {
    text.parse().ok().map(Value::Word).or_else(|| entry(text).map(Value::Entry))
}

/// `(oa:PA(p))`, `(oa:PA(a),valid:0)`, `(oa:PA(p),db:0,dbm:1)`.
fn entry(text: &str) -> Option<Entry> {
    let inside = text.strip_prefix("(oa:PA(")?.strip_suffix(')')?;
    let (target, fields) = inside.split_once(')')?;
    match (target, fields) {
        ("a", ",valid:0") => Some(Entry::Empty),
        ("s", ",valid:0") => Some(Entry::Tombstone),
        (_, "") => page(target).map(Entry::To),
        (_, ",db:0,dbm:1") => page(target).map(Entry::Clean),
        _ => None,
    }
}

/// Reads a condition from left to right.
struct Reader<'t, 'c> {
    rest: &'t str,
    contexts: &'t [Context<'c>],
}

impl<'t> Reader<'t, '_> {
    fn any(&mut self) -> Result<Condition, String> {
        let mut parts = vec![self.all()?];
        while self.take("\\/") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::Any(parts) })
    }

    fn all(&mut self) -> Result<Condition, String> {
        let mut parts = vec![self.one()?];
        while self.take("/\\") {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::All(parts) })
    }

    fn one(&mut self) -> Result<Condition, String> {
        if self.take("~") {
            return Ok(Condition::Not(Box::new(self.one()?)));
        }
        if self.take("(") {
            let inside = self.any()?;
            return if self.take(")") { Ok(inside) } else { Err(odd(self.rest)) };
        }
        let atom = self.atom();
        self.fact(atom).ok_or_else(|| odd(atom))
    }

    fn fact(&self, atom: &str) -> Option<Condition> {
        if let Some(inside) = atom.strip_prefix("fault(P") {
            let (thread, label) = inside.strip_suffix(')')?.split_once(':')?;
            let thread = thread.parse().ok()?;
            return Some(Condition::Fault(thread, self.contexts.get(thread)?.label(label).ok()?));
        }
        let (left, right) = atom.split_once('=')?;
        let right = value(right)?;
        if let Some(inside) = left.strip_prefix('[') {
            return Some(Condition::Memory(place(inside.strip_suffix(']')?)?, right));
        }
        let (thread, register) = thread_register(left, self.contexts.len())?;
        Some(Condition::Register(thread, register, right))
    }

    /// Up to a space or a bracket that closes none of its own.
    fn atom(&mut self) -> &'t str {
        let mut depth = 0;
        let end = self.rest.find(|c: char| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth < 0 || c.is_whitespace()
        });
        let (atom, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest.trim_start();
        atom
    }

    fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest).trim_start();
        rest.is_some()
    }
}

#[cfg(test)]
mod tests;
