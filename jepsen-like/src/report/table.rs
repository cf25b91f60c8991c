//! Tables, as all reports have them.

use super::escape::text;

/// A table that may be wider than a phone. Of class `words` it has them at the left, of class `numbers` at the right.
pub(super) fn table(class: &str, caption: &str, head: &[&str], rows: &[String]) -> String {
    let head: String = head
        .iter()
        .map(|it| format!("<th scope=\"col\">{}</th>", text(it)))
        .collect();
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table class=\"{class}\"><caption>{caption}</caption>\
         <thead><tr>{head}</tr></thead><tbody>{}</tbody></table></div>",
        rows.concat(),
        caption = text(caption),
    )
}

/// A row whose first cell names it.
pub(super) fn row(name: &str, cells: &[String]) -> String {
    let cells: String = cells.iter().map(|it| format!("<td>{it}</td>")).collect();
    format!("<tr><th scope=\"row\">{name}</th>{cells}</tr>")
}
