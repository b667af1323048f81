// A copy of the page's own files, and of nothing that it shows: reloaded while the server is away, the page still opens.

export async function keepCopy() {
  const worker = "/worker.js", own = performance.getEntriesByType("resource").map((one) => new URL(one.name).pathname);
  try {
    const policy = globalThis.trustedTypes?.createPolicy("worker", { createScriptURL: () => worker });
    await navigator.serviceWorker.register(policy?.createScriptURL("") ?? worker);
    await (await caches.open("tieout-label")).addAll(["/", ...new Set(own.filter((name) => name.startsWith("/page/")))]);
  } catch { /* a private window, or no server: the browser says then that it is away */ }
}
