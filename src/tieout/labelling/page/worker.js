// Where the server is away, open the page from the copy that `copy.js` keeps. Whatever the server says comes first.

addEventListener("install", () => skipWaiting());

addEventListener("fetch", (event) => {
  const { pathname } = new URL(event.request.url);
  if (event.request.method !== "GET" || (pathname !== "/" && !pathname.startsWith("/page/"))) return;
  event.respondWith(fetch(event.request).catch(async (error) => (await caches.match(pathname)) ?? Promise.reject(error)));
});
