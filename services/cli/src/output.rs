//! Results on stdout: tables aligned as kubectl aligns them, JSON, YAML, names.
use std::io::{self, Write};

use anyhow::Context;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::args::Format;

/// Columns of a table. A wide one shows only with `-o wide`.
pub struct Column<T> {
    /// In capitals.
    pub header: &'static str,
    /// Whether it needs room.
    pub wide: bool,
    /// The cell of a row.
    pub cell: fn(&T) -> String,
}

/// What a verb shows: rows, and how each format shows one.
pub struct Listing<'a, T> {
    /// The rows.
    pub rows: &'a [T],
    /// The table's columns.
    pub columns: &'a [Column<T>],
    /// `kind.group/name`.
    pub name: fn(&T) -> String,
    /// What stderr says instead of an empty table.
    pub empty: &'a str,
}

impl<T: Serialize> Listing<'_, T> {
    /// The text for a format. JSON and YAML are lists, also of one.
    ///
    /// # Errors
    /// When a row cannot be serialised.
    pub fn render(&self, format: Format) -> anyhow::Result<String> {
        match format {
            Format::Table | Format::Wide if self.rows.is_empty() => Ok(String::new()),
            Format::Table => Ok(self.table(false)),
            Format::Wide => Ok(self.table(true)),
            Format::Json => json(&self.rows),
            Format::Yaml => yaml(&self.rows),
            Format::Name => {
                Ok(self.rows.iter().map(|row| format!("{}\n", (self.name)(row))).collect())
            }
        }
    }

    /// Prints it.
    ///
    /// # Errors
    /// As [`Listing::render`] and [`print()`].
    pub fn print(&self, format: Format) -> anyhow::Result<()> {
        if self.rows.is_empty() && matches!(format, Format::Table | Format::Wide) {
            eprintln!("{}", self.empty);
        }
        print(&self.render(format)?)
    }

    fn table(&self, wide: bool) -> String {
        let columns: Vec<_> = self.columns.iter().filter(|column| wide || !column.wide).collect();
        let header = columns.iter().map(|column| column.header.to_owned());
        let rows = self
            .rows
            .iter()
            .map(|row| columns.iter().map(|column| (column.cell)(row)).collect::<Vec<_>>());
        table(header.collect(), rows)
    }
}

/// Columns three blanks apart, without borders and trailing blanks. Never wrapped, so that `grep` and `awk` see one
/// line a row.
pub fn table(header: Vec<String>, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for row in rows {
        table.add_row(row.into_iter().map(|cell| {
            let cell = cell.replace(['\n', '\r', '\t'], " ");
            if cell.is_empty() { "-".to_owned() } else { cell }
        }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// Indented, with a line feed.
///
/// # Errors
/// When the value cannot be serialised.
pub fn json(value: &impl Serialize) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(value).context("write JSON")?;
    text.push('\n');
    Ok(text)
}

/// As kubectl writes it.
///
/// # Errors
/// When the value cannot be serialised.
pub fn yaml(value: &impl Serialize) -> anyhow::Result<String> {
    serde_yaml::to_string(value).context("write YAML")
}

/// Writes to stdout. Whoever reads may stop before the end: `coffer snapshots | head`.
///
/// # Errors
/// When stdout cannot be written to for another reason.
pub fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("write the result to stdout")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Row {
        name: String,
        size: u64,
    }

    fn listing(rows: &[Row]) -> Listing<'_, Row> {
        const COLUMNS: &[Column<Row>] = &[
            Column { header: "NAME", wide: false, cell: |row| row.name.clone() },
            Column { header: "SIZE", wide: false, cell: |row| row.size.to_string() },
            Column { header: "NOTE", wide: true, cell: |_| String::new() },
        ];
        Listing {
            rows,
            columns: COLUMNS,
            name: |row| format!("row/{}", row.name),
            empty: "No rows.",
        }
    }

    #[test]
    fn formats() {
        let rows = [
            Row { name: "a-long-name".to_owned(), size: 1 },
            Row { name: "b\nc".to_owned(), size: 12345 },
        ];
        let listing = listing(&rows);
        let table = "NAME          SIZE\na-long-name   1\nb c           12345\n";
        assert_eq!(listing.render(Format::Table).unwrap(), table);
        let wide = "NAME          SIZE    NOTE\na-long-name   1       -\nb c           12345   -\n";
        assert_eq!(listing.render(Format::Wide).unwrap(), wide);
        assert_eq!(listing.render(Format::Name).unwrap(), "row/a-long-name\nrow/b\nc\n");
        let yaml = "- name: a-long-name\n  size: 1\n- name: |-\n    b\n    c\n  size: 12345\n";
        assert_eq!(listing.render(Format::Yaml).unwrap(), yaml);
        let json: serde_json::Value =
            serde_json::from_str(&listing.render(Format::Json).unwrap()).unwrap();
        assert_eq!(json[1]["size"], 12345);
    }

    #[test]
    fn nothing_to_show() {
        assert_eq!(listing(&[]).render(Format::Table).unwrap(), "");
        assert_eq!(listing(&[]).render(Format::Json).unwrap(), "[]\n");
        assert_eq!(listing(&[]).render(Format::Name).unwrap(), "");
    }

    #[test]
    fn a_long_cell_is_not_wrapped() {
        let text = table(vec!["A".to_owned()], [vec!["x ".repeat(300)]]);
        assert_eq!(text.lines().count(), 2);
    }
}
