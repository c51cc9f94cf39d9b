// The one tenant of benchmark page servers.

import { parseTenantId } from "../src/core/ids.ts";

export const TENANT = parseTenantId("b".repeat(32));
