//! The rows as a table, on a screen or not.

use std::fmt::Write as _;

use super::row::Row;

const HEAD: [&str; 7] =
    ["ID", "CPU %", "MEMORY / LIMIT", "PIDS / LIMIT", "BLOCK READ / WRITE", "THROTTLED %", "PRESSURE CPU/MEM/IO %"];
/// No id is shortened to fewer characters: these many of Docker's tell containers apart.
const SHORTEST_ID: usize = 12;
const GAP: usize = 3;

/// A table. `screen` has rows and columns: ids are shortened to its width. In place it begins at the screen's first
/// line and is no higher than the screen.
pub fn table(rows: &[Row<'_>], screen: Option<(usize, usize)>, in_place: bool) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let widths: [usize; 7] =
        std::array::from_fn(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default());
    let others: usize = widths[1..].iter().map(|width| width + GAP).sum();
    let id_width = screen.map_or(widths[0], |(_, columns)| {
        widths[0].min(columns.saturating_sub(others).max(SHORTEST_ID)).max(HEAD[0].len())
    });
    let mut shown: Vec<String> = lines.iter().map(|line| text(line, id_width, &widths)).collect();
    match screen {
        Some((height, columns)) if in_place => {
            fit(&mut shown, height.saturating_sub(1).max(2));
            drawn(&shown, columns)
        }
        _ => shown.iter().fold(String::new(), |text, line| text + line.trim_end() + "\n"),
    }
}

/// The id to the left, numbers to the right.
fn text(line: &[String; 7], id_width: usize, widths: &[usize; 7]) -> String {
    let id = &line[0];
    let mut text = match id.chars().count() > id_width {
        true => id.chars().take(id_width - 1).chain(['…']).collect(),
        false => format!("{id:id_width$}"),
    };
    for (cell, width) in line.iter().zip(widths).skip(1) {
        let _ = write!(text, "{:GAP$}{cell:>width$}", ""); // writing to a String cannot fail
    }
    text
}

/// Leaves out the last rows if there are more than fit.
fn fit(lines: &mut Vec<String>, height: usize) {
    if lines.len() > height {
        let left_out = lines.len() - (height - 1);
        lines.truncate(height - 1);
        lines.push(format!("... and {left_out} more"));
    }
}

/// Line by line over what is on the screen, which so does not flicker; what is left of the old is cleared.
fn drawn(lines: &[String], columns: usize) -> String {
    let mut text = String::from("\x1b[H");
    for line in lines {
        let cut: String = line.trim_end().chars().take(columns).collect();
        text += &cut;
        text += "\x1b[K\n";
    }
    text + "\x1b[J"
}

fn cells(row: &Row<'_>) -> [String; 7] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let percent = |share: Option<f64>| or_dash(share.map(|share| format!("{share:.1}")));
    let pressure = [row.cpu_pressure_percent, row.memory_pressure_percent, row.io_pressure_percent];
    [
        row.id.to_owned(),
        percent(row.cpu_percent),
        format!("{} / {}", size(row.memory_bytes), or_dash(row.memory_limit_bytes.map(size))),
        format!("{} / {}", row.pids, or_dash(row.pids_limit.map(|limit| limit.to_string()))),
        format!("{} / {}", size(row.block_read_bytes), size(row.block_write_bytes)),
        percent(row.throttled_percent),
        if pressure.iter().all(Option::is_none) { "-".to_owned() } else { pressure.map(percent).join(" / ") },
    ]
}

/// Three digits or so, in powers of 1024.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str) -> Row<'_> {
        Row {
            id,
            cpu_percent: Some(12.34),
            cpu_time_nanoseconds: 1,
            throttled_percent: None,
            memory_bytes: 5 << 20,
            memory_limit_bytes: Some(64 << 20),
            pids: 3,
            pids_limit: None,
            block_read_bytes: 0,
            block_write_bytes: 1536,
            cpu_pressure_percent: Some(0.5),
            memory_pressure_percent: None,
            io_pressure_percent: Some(0.0),
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = table(&[row("a"), row("longer")], None, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "ID       CPU %     MEMORY / LIMIT   PIDS / LIMIT   BLOCK READ / WRITE   THROTTLED %   PRESSURE CPU/MEM/IO %"
        );
        assert_eq!(
            lines[1],
            "a         12.3   5.0MiB / 64.0MiB          3 / -          0B / 1.5KiB             -           0.5 / - / 0.0"
        );
        assert_eq!(lines.len(), 3);
        assert_eq!(table(&[], None, false).lines().count(), 1);
    }

    #[test]
    fn a_long_id_is_shortened_on_a_screen_only() {
        let id = "0123456789abcdef".repeat(4);
        assert!(table(&[row(&id)], None, false).contains(&id));
        let text = table(&[row(&id)], Some((24, 130)), false);
        assert!(text.lines().all(|line| line.chars().count() <= 130), "{text}");
        assert!(text.contains("0123456789ab") && text.contains('…'), "{text}");
        assert!(table(&[row(&id)], Some((24, 20)), false).contains("0123456789a… "));
    }

    #[test]
    fn in_place_it_is_no_larger_than_the_screen() {
        let rows: Vec<Row<'_>> = ["a", "b", "c", "d"].map(row).into();
        let text = table(&rows, Some((5, 30)), true);
        assert!(text.starts_with("\x1b[H") && text.ends_with("... and 2 more\x1b[K\n\x1b[J"), "{text:?}");
        assert!(text.lines().all(|line| line.trim_start_matches("\x1b[H").chars().count() <= 33), "{text:?}");
        assert!(table(&rows, Some((6, 30)), true).contains("\nd  "));
    }

    #[test]
    fn sizes_have_a_unit_that_fits() {
        let sizes = [0, 1023, 1024, 1536, 1_048_575, 1 << 20, 3 << 40, u64::MAX].map(size);
        assert_eq!(sizes, ["0B", "1023B", "1.0KiB", "1.5KiB", "1.0MiB", "1.0MiB", "3.0TiB", "16.0EiB"]);
    }
}
