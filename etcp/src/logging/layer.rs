//! Makes a line of each event, as text or JSON, with the fields of the enclosing spans.
//!
//! For the journal, a line has the prefix of its level, and a text has no time of its own.
//!
//! A later value of a span's field replaces the earlier one. If several spans have a field of the
//! same name, the innermost one counts.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::journal;
use super::plain::{escape_json, push_clean};

/// The format of lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// The time, the level, the message, and the fields as `name=value`.
    Text { has_colors: bool },
    /// One object, with the message and the fields side by side.
    Json,
}

/// Passes on a line for each event.
pub(super) struct Lines<W> {
    format: Format,
    /// The reader is systemd's journal.
    is_journal: bool,
    write: W,
}

impl<W: Fn(&[u8])> Lines<W> {
    pub(super) fn new(format: Format, is_journal: bool, write: W) -> Self {
        Self { format, is_journal, write }
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&[u8]) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.add_missing(outer);
            }
        }
        let metadata = event.metadata();
        let mut line = String::new();
        if self.is_journal {
            line.push_str(journal::prefix(*metadata.level()));
        }
        match self.format {
            Format::Text { has_colors } => {
                if !self.is_journal {
                    push_time(&mut line, has_colors);
                }
                push_text(&mut line, metadata, fields, has_colors);
            }
            Format::Json => line.push_str(&json(metadata, fields)),
        }
        (self.write)(line.as_bytes());
    }
}

/// The fields in their order, each once.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    /// Adds the fields of an enclosing span that are not known yet.
    fn add_missing(&mut self, outer: &Self) {
        for (name, value) in &outer.0 {
            if !self.0.iter().any(|(known, _)| known == name) {
                self.0.push((name, value.clone()));
            }
        }
    }

    /// Takes the message, which is written apart from the fields.
    fn take_message(&mut self) -> String {
        let place = self.0.iter().position(|(name, _)| *name == "message");
        place.map(|place| shown(&self.0.remove(place).1)).unwrap_or_default()
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), Value::String(value.to_owned()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.into());
    }
}

/// Returns a value without the quotes of JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn time() -> String {
    let mut text = String::new();
    // The line is useful even without a time.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn push_time(line: &mut String, has_colors: bool) {
    let [dim, plain] = if has_colors { ["\x1b[2m", "\x1b[0m"] } else { [""; 2] };
    // Writing to a string does not fail.
    let _ = write!(line, "{dim}{}{plain} ", time());
}

fn push_text(line: &mut String, metadata: &Metadata<'_>, mut fields: Fields, has_colors: bool) {
    let level = *metadata.level();
    let message = fields.take_message();
    let [dim, color, plain] =
        if has_colors { ["\x1b[2m", color(level), "\x1b[0m"] } else { [""; 3] };
    // Writing to a string does not fail.
    let _ = write!(line, "{color}{level:>5}{plain} ");
    push_clean(line, &message);
    if !fields.0.is_empty() {
        line.push_str(dim);
        for (name, value) in &fields.0 {
            let _ = write!(line, " {name}=");
            let value = shown(value);
            match value.is_empty() || value.contains([' ', '"', '=']) {
                true => push_clean(line, &format!("{value:?}")),
                false => push_clean(line, &value),
            }
        }
        line.push_str(plain);
    }
    line.push('\n');
}

fn color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

fn json(metadata: &Metadata<'_>, mut fields: Fields) -> String {
    let mut object = Map::new();
    object.insert("timestamp".to_owned(), time().into());
    object.insert("level".to_owned(), metadata.level().to_string().into());
    object.insert("message".to_owned(), fields.take_message().into());
    for (name, value) in fields.0 {
        object.insert(name.to_owned(), value);
    }
    object.insert("target".to_owned(), metadata.target().into());
    let line = format!("{}\n", Value::Object(object));
    escape_json(&line).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::field::Empty;
    use tracing::{error_span, info};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Returns the lines that `log` makes, without their times.
    fn lines(format: Format, is_journal: bool, log: impl FnOnce()) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let write = {
            let lines = Arc::clone(&lines);
            move |line: &[u8]| {
                let line = String::from_utf8(line.to_vec()).unwrap();
                lines.lock().unwrap().push(line.trim_end().to_owned());
            }
        };
        let subscriber = tracing_subscriber::registry().with(Lines::new(format, is_journal, write));
        tracing::subscriber::with_default(subscriber, log);
        Arc::try_unwrap(lines).unwrap().into_inner().unwrap()
    }

    fn log() {
        let tunnel = error_span!("tunnel", tunnel = Empty, peer = "a b");
        let _tunnel = tunnel.enter();
        info!("before");
        tunnel.record("tunnel", "1f");
        tunnel.record("tunnel", "2e");
        let session = error_span!("session", session = 3_u64);
        let _session = session.enter();
        info!(cause = "x\x1b[2J\"", session = 4_u64, "inside\nof {}", 7);
    }

    #[test]
    fn a_line_of_text_has_the_fields_of_its_spans_and_each_once() {
        let lines = lines(Format::Text { has_colors: false }, false, log);
        let lines: Vec<_> = lines.iter().map(|line| line.split_once("Z  ").unwrap().1).collect();
        let inside = r#"INFO inside of 7 cause="x\u{1b}[2J\"" session=4 peer="a b" tunnel=2e"#;
        assert_eq!(lines, [r#"INFO before peer="a b""#, inside]);
    }

    #[test]
    fn a_line_for_the_journal_has_its_level_and_leaves_the_time_to_the_journal() {
        let log = || {
            tracing::error!("broken");
            tracing::warn!("odd");
            info!(key = 1_u64, "usual");
        };
        let text = lines(Format::Text { has_colors: false }, true, log);
        assert_eq!(text, ["<3>ERROR broken", "<4> WARN odd", "<6> INFO usual key=1"]);
        let json = lines(Format::Json, true, log);
        assert!(json[0].starts_with("<3>{") && json[2].starts_with("<6>{"), "{json:?}");
    }

    #[test]
    fn a_line_of_json_is_one_object_with_the_fields_of_its_spans() {
        let lines = lines(Format::Json, false, log);
        let object: Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(object["message"], "inside\nof 7");
        assert_eq!((&object["level"], &object["session"]), (&"INFO".into(), &4.into()));
        assert_eq!((&object["tunnel"], &object["peer"]), (&"2e".into(), &"a b".into()));
        assert_eq!(object["cause"], "x\u{1b}[2J\"");
        assert!(object["target"].as_str().unwrap().ends_with("layer::tests"));
    }
}
