//! Columns of text.

/// Rows under a header, each column as wide as its widest cell, two spaces between; no spaces at the end of a line.
///
/// Cells are expected to be escaped. A row may be shorter than the header.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let render = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::new();
        for (cell, width) in cells.zip(&widths) {
            let filler = width.saturating_sub(cell.chars().count()) + 2;
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', filler));
        }
        out.truncate(out.trim_end().len());
        out
    };
    let mut lines = vec![render(&mut header.iter().copied())];
    lines.extend(
        rows.iter()
            .map(|row| render(&mut row.iter().map(String::as_str))),
    );
    lines
}

/// `key: value` lines with the values under one another.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> Vec<String> {
    let width = pairs
        .iter()
        .map(|(key, _)| key.len())
        .max()
        .unwrap_or_default()
        + 2;
    pairs
        .iter()
        .map(|(key, value)| format!("{:<width$}{value}", format!("{key}:")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_their_cells() {
        let rows = [
            vec!["1".into(), "größer".into()],
            vec!["22222".into(), "-".into()],
        ];
        assert_eq!(
            table(&["ID", "NAME"], &rows),
            ["ID     NAME", "1      größer", "22222  -"]
        );
        assert_eq!(table(&["ID", "NAME"], &[]), ["ID  NAME"]);
    }

    #[test]
    fn values_stand_under_one_another() {
        let shown = pairs(&[("id", "1".into()), ("entrypoint", "start".into())]);
        assert_eq!(shown, ["id:         1", "entrypoint: start"]);
    }
}
