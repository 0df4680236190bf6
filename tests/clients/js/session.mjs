// session.js
import { ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";

const { signIn } = anyApi;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Keeps the user of a `ConvexClient` signed in; `onChange` is told whether somebody is. */
export class Session {
  #token = null;
  #onChange;

  constructor(client, url, { storage = localStorage, onChange = () => {} } = {}) {
    this.client = client;
    // `client` waits while its token is fetched, so the token is fetched by another one.
    this.http = new ConvexHttpClient(url);
    this.storage = storage;
    this.#onChange = onChange;
    if (storage.getItem("refreshToken") !== null) this.#show();
  }

  anonymously = async () => this.#begin(await this.client.action(signIn.anonymously, {}));

  signUp = async (name, password) =>
    this.#begin(await this.client.action(signIn.signUp, { name, password }));

  withPassword = async (name, password) => {
    // The last token of this device tells that it is known, so that nobody can lock it out.
    const refreshToken = this.storage.getItem("lastToken");
    this.#begin(await this.client.action(signIn.withPassword, { name, password, refreshToken }));
  };

  signOut = async () => {
    const refreshToken = this.storage.getItem("refreshToken");
    this.#forget();
    // The server is told by `clearAuth` (a `ConvexReactClient` has it itself), `onChange` by `setAuth`.
    (this.client.clearAuth ? this.client : this.client.client).clearAuth();
    this.#show();
    if (refreshToken !== null) await this.client.mutation(signIn.signOut, { refreshToken });
  };

  #begin(tokens) {
    this.#keep(tokens);
    this.#show();
  }

  #keep({ token, refreshToken }) {
    this.#token = token;
    this.storage.setItem("refreshToken", refreshToken);
    this.storage.setItem("lastToken", refreshToken);
  }

  #forget() {
    this.#token = null;
    this.storage.removeItem("refreshToken");
  }

  #show() {
    this.client.setAuth(this.fetchToken, this.#onChange);
  }

  fetchToken = async ({ forceRefreshToken }) => {
    if (this.#token !== null && !forceRefreshToken) return this.#token;
    for (let waitMs = 500; ; waitMs = Math.min(2 * waitMs, 10_000)) {
      // Read each time: meanwhile this tab or another one may have refreshed, signed in or out.
      const refreshToken = this.storage.getItem("refreshToken");
      if (refreshToken === null) return null;
      try {
        const tokens = await this.http.action(signIn.refresh, { refreshToken });
        if ([refreshToken, tokens.refreshToken].includes(this.storage.getItem("refreshToken"))) {
          this.#keep(tokens);
          return this.#token;
        }
      } catch (error) {
        if (error.data?.code !== "SessionEnded") {
          // No connection, a server that restarts, or too many refreshes: none of it ends a session.
          await pause(error.data?.retryAfterMs ?? waitMs);
        } else if (this.storage.getItem("refreshToken") === refreshToken) {
          this.#forget();
        }
      }
    }
  };
}
