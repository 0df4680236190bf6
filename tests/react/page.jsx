// What do Convex's own React hooks show? A page of parts, one hook each, that the test puts on and presses.

import { Component, StrictMode, useCallback, useEffect, useLayoutEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import {
  Authenticated,
  ConvexProvider,
  ConvexProviderWithAuth,
  ConvexReactClient,
  insertAtTop,
  useAction,
  useConvexAuth,
  useMutation,
  usePaginatedQuery,
  useQueries,
  useQuery,
} from "convex/react";
import { ConvexError } from "convex/values";
import { makeFunctionReference } from "convex/server";

const wanted = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const client = new ConvexReactClient(wanted.url);

// Every state that each part has shown, in order, so that a moment of a gap or a duplicate cannot be missed;
// every state of the whole page; and how each press of a button ended.
window.shown = {};
window.moments = [];
window.ended = {};
window.client = client;
const press = {};

const readable = (_, value) => {
  if (value === undefined) return "(loading)";
  if (!(value instanceof Error)) return value;
  return value instanceof ConvexError ? { data: value.data } : { error: value.message };
};

function Shown({ name, state }) {
  const text = JSON.stringify(state, readable);
  useLayoutEffect(() => {
    const states = (window.shown[name] ??= []);
    if (text !== JSON.stringify(states.at(-1))) states.push(JSON.parse(text));
  });
  return <output id={name}>{text}</output>;
}

function Query({ name, query, args }) {
  return <Shown name={name} state={useQuery(makeFunctionReference(query), args)} />;
}

function Queries({ name, queries }) {
  // A new object is a new request; the parts of the page keep theirs until the test gives another.
  return <Shown name={name} state={useQueries(queries)} />;
}

function List({ name, query, args, size }) {
  const { results, status, loadMore } = usePaginatedQuery(makeFunctionReference(query), args, {
    initialNumItems: size,
  });
  press[name] = loadMore;
  return <Shown name={name} state={{ results, status }} />;
}

const OPTIMISTIC = {
  count(store, { name, by = 1 }) {
    const known = store.getQuery(makeFunctionReference("conformance/counter:value"), { name });
    if (known === undefined) return;
    store.setQuery(makeFunctionReference("conformance/counter:value"), { name }, known + by);
  },
  entry(localQueryStore, { key }) {
    const paginatedQuery = makeFunctionReference("entries:pageOf");
    const item = { _id: `optimistic ${key}`, _creationTime: Date.now(), key, author: "(optimistic)" };
    insertAtTop({ paginatedQuery, localQueryStore, item });
  },
};

function Mutation({ name, mutation, optimistic }) {
  const plain = useMutation(makeFunctionReference(mutation));
  press[name] = optimistic ? plain.withOptimisticUpdate(OPTIMISTIC[optimistic]) : plain;
  return null;
}

function Action({ name, action }) {
  press[name] = useAction(makeFunctionReference(action));
  return null;
}

function Auth({ name }) {
  return <Shown name={name} state={useConvexAuth()} />;
}

const KINDS = { query: Query, queries: Queries, list: List, mutation: Mutation, action: Action, auth: Auth };

class Boundary extends Component {
  state = { error: null };
  static getDerivedStateFromError = (error) => ({ error });
  render() {
    const { name, children } = this.props;
    press[`${name} again`] = () => this.setState({ error: null });
    return this.state.error ? <Shown name={name} state={this.state.error} /> : children;
  }
}

function Part({ name, part }) {
  const Kind = KINDS[part.kind];
  const inside = (
    <Boundary name={name}>
      <Kind name={name} {...part} />
    </Boundary>
  );
  return part.whenSignedIn ? <Authenticated>{inside}</Authenticated> : inside;
}

function Page() {
  const [parts, setParts] = useState(wanted.parts);
  window.put = (name, part) => setParts((before) => ({ ...before, [name]: part }));
  return Object.entries(parts).map(([name, part]) => part && <Part key={name} name={name} part={part} />);
}

/** The hook of a sign-in library: whom the test signs in; undefined while it does not know yet. */
function useUser() {
  const [user, setUser] = useState(wanted.user);
  useEffect(() => {
    window.signIn = setUser;
  }, []);
  const fetchAccessToken = useCallback(
    async ({ forceRefreshToken }) => (await fetch(`/token?user=${user}&fresh=${forceRefreshToken}`)).json(),
    [user],
  );
  return { isLoading: user === undefined, isAuthenticated: typeof user === "string", fetchAccessToken };
}

window.press = (name, number, ...args) => {
  Promise.resolve(press[name](...args)).then(
    (value) => (window.ended[number] = { value: value ?? null }),
    (error) => (window.ended[number] = JSON.parse(JSON.stringify(error, readable))),
  );
};

const root = document.getElementById("root");
new MutationObserver(() => {
  const outputs = [...root.querySelectorAll("output")];
  window.moments.push(Object.fromEntries(outputs.map((one) => [one.id, JSON.parse(one.textContent)])));
}).observe(root, { subtree: true, childList: true, characterData: true });

createRoot(root).render(
  <StrictMode>
    {wanted.auth ? (
      <ConvexProviderWithAuth client={client} useAuth={useUser}>
        <Page />
      </ConvexProviderWithAuth>
    ) : (
      <ConvexProvider client={client}>
        <Page />
      </ConvexProvider>
    )}
  </StrictMode>,
);
