// One script tag puts the chat on a web page:
//   <script src="https://HOST/embed.js" async></script>
// data-label, data-color, data-position="left" and data-lang="zh" change how it looks;
// featherdesk.open() and featherdesk.close() are there for links of your own.
(() => {
  "use strict";

  const BOT = /*BOT*/ { title: "Chat", origins: [] };
  const WORDS = {
    en: { label: "Ask us", close: "Close the chat" },
    zh: { label: "在线咨询", close: "关闭对话" },
  };
  const COLOR = "#047857";
  const OPEN = "featherdesk-open";
  const STYLE = `
    :host { all: initial; }
    * { box-sizing: border-box; font-family: system-ui, -apple-system, "Segoe UI", "Noto Sans",
        "Noto Sans CJK SC", sans-serif; }
    button { border: 0; cursor: pointer; background: var(--accent); color: var(--ink);
      font-size: 16px; }
    button:focus-visible { outline: 3px solid var(--accent); outline-offset: 3px;
      box-shadow: 0 0 0 3px #fff; }
    svg { width: 24px; height: 24px; flex: none; fill: none; stroke: currentColor;
      stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
    #launch { position: fixed; bottom: calc(20px + env(safe-area-inset-bottom)); right: 20px;
      z-index: 2147483000; display: flex; align-items: center; gap: 10px; height: 56px;
      max-width: calc(100vw - 40px); padding: 0 22px 0 18px; border-radius: 28px;
      font-weight: 600; box-shadow: 0 6px 20px rgb(15 23 42 / 28%); }
    #launch span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
    #launch:hover { filter: brightness(1.08); }
    dialog { position: fixed; inset: auto 20px calc(88px + env(safe-area-inset-bottom)) auto;
      z-index: 2147483000; width: 400px; height: min(680px, calc(100dvh - 108px)); margin: 0;
      padding: 0; border: 0; border-radius: 18px; overflow: hidden; background: #f8fafc;
      box-shadow: 0 18px 60px rgb(15 23 42 / 32%), 0 0 0 1px rgb(15 23 42 / 8%); }
    dialog[open] { display: flex; flex-direction: column; }
    dialog::backdrop { background: none; }
    header { display: flex; align-items: center; gap: 12px; flex: none; padding: 10px 10px 10px 18px;
      background: var(--accent); color: var(--ink); }
    h2 { flex: 1; margin: 0; overflow: hidden; font-size: 17px; font-weight: 600;
      line-height: 1.3; text-overflow: ellipsis; white-space: nowrap; }
    #close { display: grid; width: 40px; height: 40px; place-items: center; padding: 0;
      border-radius: 20px; }
    #close:hover { background: rgb(255 255 255 / 18%); }
    #close:focus-visible { outline-color: var(--ink); outline-offset: -3px; box-shadow: none; }
    main { position: relative; flex: 1; min-height: 0; }
    main::before { content: ""; position: absolute; inset: calc(50% - 16px) auto auto
      calc(50% - 16px); width: 32px; height: 32px; border: 3px solid rgb(100 116 139 / 25%);
      border-top-color: var(--accent); border-radius: 50%; }
    iframe { position: relative; display: block; width: 100%; height: 100%; border: 0; opacity: 0; }
    iframe.ready { opacity: 1; }
    .left #launch { right: auto; left: 20px; }
    .left dialog { right: auto; left: 20px; }
    @media (prefers-color-scheme: dark) { dialog { background: #0f172a; } }
    @media (prefers-reduced-motion: no-preference) {
      iframe { transition: opacity 0.25s; }
      #launch { transition: filter 0.15s; }
      main::before { animation: turn 0.9s linear infinite; }
      dialog[open] { animation: rise 0.2s ease-out; }
      @keyframes turn { to { transform: rotate(360deg); } }
      @keyframes rise { from { opacity: 0; transform: translateY(12px); } }
    }
    @media (max-width: 480px) {
      #launch { height: 52px; }
      #launch[aria-expanded="true"] { display: none; }
      dialog, .left dialog { inset: 0; width: 100%; max-width: 100%; height: 100dvh;
        max-height: 100dvh; border-radius: 0; }
      header { padding-top: calc(10px + env(safe-area-inset-top)); }
    }
    @media print { :host { display: none; } }
  `;
  const BUBBLE = "M21 12a8 8 0 0 1-8 8H4l2.2-3.1A8 8 0 1 1 21 12ZM9 12h.01M13 12h.01M17 12h.01";
  const CROSS = "M6 6l12 12M18 6 6 18";

  const script = document.currentScript || document.querySelector("script[src$='/embed.js']");
  const base = new URL(".", script.src);
  const settings = script.dataset;

  function allowed(origin) {
    return origin === base.origin || BOT.origins.some((one) => {
      const [scheme, domain] = one.toLowerCase().split("://*");
      return domain ? origin.startsWith(`${scheme}://`) && origin.endsWith(domain)
        : origin === scheme;
    });
  }

  function language() {
    const said = settings.lang || document.documentElement.lang || navigator.language || "";
    return said.toLowerCase().startsWith("zh") ? "zh" : "en";
  }

  function color() {
    if (!settings.color) return COLOR;
    if (CSS.supports("color", settings.color)) return settings.color;
    console.warn(`Featherdesk: data-color="${settings.color}" is not a colour`);
    return COLOR;
  }

  // White, or near black where white would be hard to read (WCAG's contrast of 4.5).
  function inkOn(background) {
    const canvas = document.createElement("canvas").getContext("2d");
    canvas.fillStyle = background;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue] = [...canvas.getImageData(0, 0, 1, 1).data]
      .map((part) => part / 255)
      .map((part) => (part <= 0.04 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    return 1.05 / (luminance + 0.05) >= 4.5 ? "#fff" : "#0b1220";
  }

  // Elements are made one by one: pages with Trusted Types refuse innerHTML.
  function element(name, attributes, ...children) {
    const made = document.createElement(name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    made.append(...children);
    return made;
  }

  function icon(path) {
    const made = ["svg", "path"].map((name) =>
      document.createElementNS("http://www.w3.org/2000/svg", name));
    made[0].setAttribute("viewBox", "0 0 24 24");
    made[0].setAttribute("aria-hidden", "true");
    made[1].setAttribute("d", path);
    made[0].append(made[1]);
    return made[0];
  }

  function remembered(value) {
    try {
      if (value === undefined) return sessionStorage.getItem(OPEN) === "yes";
      sessionStorage.setItem(OPEN, value ? "yes" : "no");
    } catch {
      // Storage is switched off: the chat opens closed on the next page.
    }
    return false;
  }

  function build() {
    const spoken = language();
    const words = WORDS[spoken];
    const label = settings.label || words.label;
    const launch = element("button", {
      id: "launch", type: "button", "aria-haspopup": "dialog", "aria-expanded": "false",
    }, icon(BUBBLE), element("span", {}, label));
    const close = element("button", {
      id: "close", type: "button", "aria-label": words.close, title: words.close,
    }, icon(CROSS));
    const body = element("main", {});
    const dialog = element("dialog", { "aria-labelledby": "title" },
      element("header", {}, element("h2", { id: "title" }, BOT.title), close), body);
    const shell = element("div", { lang: spoken }, dialog, launch);
    if (settings.position === "left") shell.className = "left";
    const accent = color();
    const ink = inkOn(accent);
    shell.style.setProperty("--accent", accent);
    shell.style.setProperty("--ink", ink);
    const host = document.createElement("featherdesk-chat");
    const root = host.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    root.append(shell);
    document.body.append(host);
    const given = new URLSearchParams({ lang: spoken, accent, ink });
    return { launch, close, dialog, body, source: `${base.href}?${given}` };
  }

  function start() {
    if (document.querySelector("featherdesk-chat")) return;
    if (!allowed(location.origin)) {
      console.error(`Featherdesk: ${location.origin} may not show the chat of ${base.origin}. ` +
        `Add it to bot.toml, [page] embed_origins = ["${location.origin}"], and build again.`);
      return;
    }
    connect(build());
  }

  function connect({ launch, close, dialog, body, source }) {
    const small = matchMedia("(max-width: 480px)");
    let frame = null;
    let ready = false;
    let wanted = false;

    // Dialog and chat take the focus by themselves; when they come back with a page they must not.
    function focus() {
      if (!wanted) {
        dialog.getRootNode().activeElement?.blur();
        return;
      }
      frame.focus();
      if (ready) frame.contentWindow.postMessage({ featherdesk: "focus" }, base.origin);
    }

    function load() {
      frame = element("iframe", { src: source, title: BOT.title, allow: "clipboard-write" });
      // A page that fails says so in the frame instead of reporting that it is ready.
      frame.addEventListener("load", () => setTimeout(() => frame.classList.add("ready"), 8000));
      body.append(frame);
    }

    function open(focused = true) {
      if (dialog.open) return;
      if (!frame) load();
      if (small.matches) dialog.showModal();
      else dialog.show();
      launch.setAttribute("aria-expanded", "true");
      remembered(true);
      wanted = focused;
      focus();
    }

    launch.addEventListener("click", () => (dialog.open ? dialog.close() : open()));
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      launch.setAttribute("aria-expanded", "false");
      remembered(false);
      launch.focus();
    });
    dialog.getRootNode().addEventListener("keydown", (event) => {
      if (event.key === "Escape" && dialog.open) dialog.close();
    });
    window.addEventListener("message", (event) => {
      if (!frame || event.source !== frame.contentWindow || event.origin !== base.origin) return;
      if (event.data?.featherdesk === "close") dialog.close();
      if (event.data?.featherdesk === "ready") {
        ready = true;
        frame.classList.add("ready");
        if (dialog.getRootNode().activeElement === frame) focus();
      }
    });
    window.featherdesk = { open: () => open(), close: () => dialog.close() };
    if (remembered() && !small.matches) open(false);
  }

  if (document.body) start();
  else document.addEventListener("DOMContentLoaded", start);
})();
