() => {
  /* Gradio copies a bubble as Markdown; people want its words, and not the receipt. */
  const plain = (text) =>
    text
      .replace(/<details class="why">.*?<\/details>/g, "")
      .replace(/\[((?:\\.|[^\]\\])*)\]\([^)\s]*\)/g, "$1")
      .replace(/\\([^\w\s])/g, "$1")
      .replace(/ {2}$/gm, "")
      .replace(/&lt;/g, "<")
      .replace(/&gt;/g, ">")
      .replace(/&amp;/g, "&")
      .trim();
  const board = navigator.clipboard;
  if (board) {
    const write = board.writeText.bind(board);
    board.writeText = (text) => write(plain(text));
  }
  /* Without HTTPS there is no clipboard; Gradio then copies from a box outside the screen. */
  document.addEventListener("copy", (event) => {
    if (event.target instanceof HTMLTextAreaElement && event.target.style.left === "-999999px") {
      event.clipboardData.setData("text/plain", plain(event.target.value));
      event.preventDefault();
    }
  });
  /* What is said last is seen, also when an opened receipt has moved the end away. */
  const said = (node) => node instanceof Element && node.matches("#chat .message, #chat .message-row");
  new MutationObserver((changes) => {
    if (changes.some((change) => [...change.addedNodes].some(said))) {
      const chat = document.querySelector("#chat .bubble-wrap");
      chat?.scrollTo({ top: chat.scrollHeight });
    }
  }).observe(document.body, { childList: true, subtree: true });
}
