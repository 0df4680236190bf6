// What does Convex's own `usePaginatedQuery` show? One list, and a handle for the test to look and to press.

import { createElement, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { ConvexProvider, ConvexReactClient, usePaginatedQuery } from "convex/react";
import { anyApi } from "convex/server";

const wanted = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const [module, name] = wanted.query.split(":");
const client = new ConvexReactClient(wanted.url);

// Every state that React has shown, so that a moment of a gap or a duplicate cannot be missed.
window.shown = [];

function List() {
  const { results, status, loadMore } = usePaginatedQuery(anyApi[module][name], wanted.args, {
    initialNumItems: wanted.size,
  });
  const state = { ids: results.map((card) => card._id), ranks: results.map((card) => card.rank), status };
  if (JSON.stringify(state) !== JSON.stringify(window.shown.at(-1))) window.shown.push(state);
  window.loadMore = loadMore;
  return createElement("output", null, JSON.stringify(state));
}

createRoot(document.getElementById("root")).render(
  createElement(StrictMode, null, createElement(ConvexProvider, { client }, createElement(List))),
);
