//! `--log`, `--log-format`, `--debug`: where messages go and what they look like, as callers of runc read them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

use log::{Level, LevelFilter, Metadata, Record};

use crate::error::{Context as _, Error, Result, anyhow, one_line};

/// The form of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `time="…" level=error msg="…"`
    #[default]
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

struct Logger {
    /// None: the standard error stream.
    file: Option<File>,
    format: Format,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Opens the log, to append to it: callers read what several commands wrote.
pub fn open(path: Option<&Path>, format: Format, debug: bool) -> Result<()> {
    let open = |path: &Path| {
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.with_context(|| format!("--log: open {path:?}"))
    };
    let file = path.map(open).transpose()?;
    let logger = LOGGER.get_or_init(|| Logger { file, format });
    log::set_logger(logger).map_err(|error| anyhow!("log: {error}"))?;
    log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
    Ok(())
}

/// Whether messages go to a file, not to standard error.
pub fn has_file() -> bool {
    LOGGER.get().is_some_and(|logger| logger.file.is_some())
}

/// Reports the error that ends a command: one write, one line, on the log and, for a person, on standard error.
pub fn fatal(error: &Error) {
    let reason = one_line(error);
    match LOGGER.get() {
        Some(logger) => {
            logger.write(Level::Error, &reason);
            if logger.file.is_some() {
                let _ = io::stderr().write_all(format!("{reason}\n").as_bytes());
            }
        }
        None => Logger { file: None, format: Format::Text }.write(Level::Error, &reason),
    }
}

impl Logger {
    fn write(&self, level: Level, message: &str) {
        let level = match level {
            Level::Warn => "warning",
            Level::Error => "error",
            Level::Info => "info",
            Level::Debug | Level::Trace => "debug",
        };
        let time = humantime::format_rfc3339_seconds(SystemTime::now());
        let line = match self.format {
            Format::Text => format!("time=\"{time}\" level={level} msg={message:?}\n"),
            Format::Json => {
                let message = serde_json::Value::from(message);
                format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"}}\n")
            }
        };
        // There is nowhere left to report that the log cannot be written.
        let _ = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => io::stderr().write_all(line.as_bytes()),
        };
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tare")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.write(record.level(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}
