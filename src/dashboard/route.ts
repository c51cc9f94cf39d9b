// Where in the dashboard one is: the part of the address behind "#". Unknown addresses are the start.

export type Route =
  | { readonly page: "branches"; readonly tenant: string | undefined }
  | { readonly page: "timeline"; readonly tenant: string; readonly timeline: string }
  | { readonly page: "computes"; readonly tenant: string | undefined }
  | { readonly page: "supervision" }
  | { readonly page: "jobs" };

export function parseRoute(hash: string): Route {
  const [first, tenant, second, timeline] = hash
    .replace(/^#?\/?/, "")
    .split("/")
    .map(decode);
  if (first === "supervision" || first === "jobs") return { page: first };
  if (first === "computes") return { page: "computes", tenant: undefined };
  if (first !== "tenant" || tenant === undefined || tenant === "") {
    return { page: "branches", tenant: undefined };
  }
  if (second === "computes") return { page: "computes", tenant };
  if (second === "timeline" && timeline !== undefined && timeline !== "") {
    return { page: "timeline", tenant, timeline };
  }
  return { page: "branches", tenant };
}

export function hrefOf(route: Route): string {
  switch (route.page) {
    case "branches":
      return route.tenant === undefined ? "#/" : `#/tenant/${encode(route.tenant)}`;
    case "timeline":
      return `#/tenant/${encode(route.tenant)}/timeline/${encode(route.timeline)}`;
    case "computes":
      return route.tenant === undefined
        ? "#/computes"
        : `#/tenant/${encode(route.tenant)}/computes`;
    case "supervision":
    case "jobs":
      return `#/${route.page}`;
  }
}

export const tenantOf = (route: Route): string | undefined =>
  "tenant" in route ? route.tenant : undefined;

const encode = encodeURIComponent;

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
