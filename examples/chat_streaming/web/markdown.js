/**
 * A little Markdown: fenced code, `code`, **bold**, paragraphs. All text goes in as text nodes, so nothing a
 * model or a user writes can become markup. An open fence is drawn as code, for it may still be growing.
 */

/** @param {HTMLElement} target @param {string} text */
export function drawMarkdown(target, text) {
  const blocks = [];
  const fence = /^```[^\n]*\n([\s\S]*?)(?:^```[ \t]*$|(?![\s\S]))/gm;
  let end = 0;
  for (const match of text.matchAll(fence)) {
    blocks.push(...paragraphs(text.slice(end, match.index)), codeBlock(match[1]));
    end = match.index + match[0].length;
  }
  blocks.push(...paragraphs(text.slice(end)));
  target.replaceChildren(...blocks);
}

function paragraphs(text) {
  return text.split(/\n{2,}/).filter((part) => part.trim()).map((part) => {
    const paragraph = document.createElement("p");
    // Splitting by a pattern with one group gives text and marked pieces in turn.
    for (const piece of part.replace(/^\n+|\s+$/g, "").split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/)) {
      if (piece.length > 2 && piece.startsWith("`") && piece.endsWith("`")) {
        paragraph.append(marked("code", piece.slice(1, -1)));
      } else if (piece.length > 4 && piece.startsWith("**") && piece.endsWith("**")) {
        paragraph.append(marked("strong", piece.slice(2, -2)));
      } else {
        paragraph.append(piece);
      }
    }
    return paragraph;
  });
}

function codeBlock(text) {
  const block = document.createElement("pre");
  block.append(marked("code", text.replace(/\n$/, "")));
  return block;
}

function marked(name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}
