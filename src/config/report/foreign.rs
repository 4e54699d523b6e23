//! Words that configs of MCP clients and of other gateways have, and what they are here.
//!
//! A table, because letters say nothing: `cmd` is nearer to `cwd` than to `command`.

/// What words that are no keys here probably mean.
#[derive(Debug)]
pub(crate) struct Meaning {
    /// Names of the kinds of objects that they are in; none is all.
    objects: &'static [&'static str],
    /// The words, with a space between two. They are in small letters, without `_`, `-` and `.`.
    words: &'static str,
    /// The key of the same object that is meant, or nothing.
    pub(crate) key: &'static str,
    /// What to do; nothing if it is to write the key.
    pub(crate) way: &'static str,
}

/// The letters by which words are compared.
pub(crate) fn plain(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '_' | '-' | '.' | ' ')).flat_map(char::to_lowercase).collect()
}

/// What `word` means in an object of this kind.
pub(crate) fn meaning(object: &str, word: &str) -> Option<&'static Meaning> {
    let word = plain(word);
    TABLE.iter().find(|entry| {
        (entry.objects.is_empty() || entry.objects.contains(&object))
            && entry.words.split(' ').any(|known| known == word)
    })
}

const fn key(objects: &'static [&'static str], words: &'static str, key: &'static str) -> Meaning {
    way(objects, words, key, "")
}

const fn way(
    objects: &'static [&'static str],
    words: &'static str,
    key: &'static str,
    way: &'static str,
) -> Meaning {
    Meaning { objects, words, key, way }
}

/// What to do with what is to hold for all servers.
pub(crate) const NO_DEFAULTS: &str =
    "there are no defaults or templates for servers here; write what it says into each server, and remove it";

const ROOT: &[&str] = &["config"];
const PROXY: &[&str] = &["proxy"];
const ROOT_OR_PROXY: &[&str] = &["config", "proxy"];
const SERVER: &[&str] = &["server"];
const SERVER_OR_TOOL: &[&str] = &["server", "tool"];
const AUTH: &[&str] = &["auth"];
const CLIENT: &[&str] = &["client"];
const TOKEN: &[&str] = &["token"];
const IDP: &[&str] = &["idp"];
const ISSUER: &[&str] = &["issuer"];
const INTROSPECTION: &[&str] = &["introspection"];
const ASSIGNMENT: &[&str] = &["assignment"];
const CONDITION: &[&str] = &["condition"];
const TLS: &[&str] = &["tls"];
const UPSTREAM_AUTH: &[&str] = &["upstreamAuth"];
const SERVICE_AUTH: &[&str] = &["serviceAuth"];

static TABLE: &[Meaning] = &[
    // The file: VS Code, Master MCP Server, Atrax, 1MCP, MCP Front, mcphub, mcp-proxy.
    way(
        ROOT,
        "servers mcp contextservers",
        "mcpServers",
        "is `mcpServers` here, an object with one entry for each server: { \"NAME\": { \"url\": \"…\" } }",
    ),
    way(
        ROOT,
        "inputs",
        "",
        "clients ask their user for these; here a secret comes from a variable: write `${NAME}` where `${input:NAME}` \
         stands, set the variable, and remove this",
    ),
    way(
        ROOT_OR_PROXY,
        "port host hostname listen listenaddr listenaddress bind bindaddress address",
        "addr",
        "host and port are one key here: \"proxy\": { \"addr\": \"127.0.0.1:8080\" }",
    ),
    way(
        ROOT_OR_PROXY,
        "hosting server http gateway mcpproxy",
        "",
        "is `proxy` here, with `addr` for host and port, and `baseUrl` for the URL that clients use",
    ),
    way(
        ROOT_OR_PROXY,
        "loglevel logformat logging logger logs verbose",
        "",
        "is `proxy.log` here: { \"level\": \"info\", \"format\": \"json\" }",
    ),
    way(
        ROOT_OR_PROXY,
        "cors corsorigins allowedcors origins corsorigin",
        "",
        "is `proxy.allowedOrigins` here: the web origins that may call from a browser",
    ),
    way(
        ROOT_OR_PROXY,
        "hosts allowedhostnames trustedhosts",
        "",
        "is `proxy.allowedHosts` here: the names that clients use for the gateway",
    ),
    way(
        ROOT_OR_PROXY,
        "bearerkeys users apikeys keys clients token bearertoken apikey authtoken authtokens",
        "",
        "who may come in stands in `proxy.auth.tokens`: a name and a token for each caller; `authTokens` of a server names \
         those who may use it",
    ),
    way(
        ROOT_OR_PROXY,
        "oauth masteroauth oidc idp",
        "",
        "is in `proxy.auth` here: `\"kind\": \"oauth\"`, by which the gateway's own users log in, or those of an `idp`",
    ),
    way(
        ROOT_OR_PROXY,
        "public noauth disableauth authdisabled anonymous allowanonymous",
        "",
        "nothing here opens all servers to everybody; give each caller a token in `proxy.auth.tokens`",
    ),
    way(
        ROOT_OR_PROXY,
        "serverdefaults defaults default common shared global mcptemplates templatesettings \
         instructiontemplates templates presets",
        "",
        NO_DEFAULTS,
    ),
    way(
        ROOT_OR_PROXY,
        "lazyloading",
        "",
        "is `proxy.aggregate.lazy` here: true for three tools that stand for all",
    ),
    way(
        ROOT_OR_PROXY,
        "delimiter separator discovery toolprefix",
        "",
        "how all servers look as one is in `proxy.aggregate`: `separator`, `mode`, `discoveryTimeout`",
    ),
    way(
        ROOT_OR_PROXY,
        "routing security preferences hooks general app gallery projects features telemetry ui theme \
         smartrouting groups",
        "",
        "nothing here does that; remove it",
    ),
    key(ROOT, "configversion schemaversion apiversion", "version"),
    way(
        PROXY,
        "certfile certificate cert key keyfile certpath keypath ssl https sslcert sslkey tlscert tlskey \
         certs",
        "tls",
        "is `tls` here: { \"cert\": \"cert.pem\", \"key\": \"key.pem\" }",
    ),
    key(PROXY, "url publicurl externalurl serverurl issuer domain publicbaseurl", "baseUrl"),
    key(PROXY, "trustproxy trustedproxy realipfrom proxies", "trustedProxies"),
    key(
        PROXY,
        "graceperiod shutdowntimeout draintimeout shutdowngraceperiod terminationgraceperiod",
        "shutdownGrace",
    ),
    key(PROXY, "threads workerthreads concurrency", "workers"),
    way(
        PROXY,
        "timeout requesttimeout readtimeout",
        "",
        "is `limits.upstreamTimeout` here, with a unit: \"60s\"; or `timeout` of a server",
    ),
    way(
        PROXY,
        "metrics prometheus adminport metricsport adminaddr",
        "admin",
        "is `admin` here: { \"addr\": \"127.0.0.1:9090\" } serves `/metrics` and `/servers`",
    ),
    way(PROXY, "idletimeout sessiontimeout", "", "is `sessions.timeout` here"),
    way(
        PROXY,
        "statefile datadir storage database db",
        "",
        "what the gateway keeps is in `stateDir`, and `auth.storage` says whether logins are; remove it",
    ),
    // A server.
    key(SERVER_OR_TOOL, "cmd program executable exec binary bin script run", "command"),
    key(SERVER_OR_TOOL, "arguments argv params commandargs cmdargs", "args"),
    key(SERVER_OR_TOOL, "environment envs envvars environmentvariables variables environ vars", "env"),
    key(SERVER, "workingdirectory workdir workingdir dir directory chdir pwd", "cwd"),
    key(
        SERVER,
        "endpoint serverurl httpurl sseurl baseurl uri address href link host remote target upstream",
        "url",
    ),
    way(SERVER, "port", "url", "is a part of `url` here, as in \"http://127.0.0.1:3000/mcp\""),
    key(SERVER, "transport protocol mcptype servertype", "transportType"),
    key(SERVER, "requestinit httpheaders header extraheaders customheaders", "headers"),
    way(
        SERVER,
        "enabled active isactive autostart",
        "",
        "is the other way round here: `\"disabled\": true` for a server that is not to run, and nothing for one that is",
    ),
    way(SERVER, "disable off isdisabled", "", "is `disabled` here, true or false"),
    way(
        SERVER,
        "disabledtools excludetools blockedtools deniedtools exclude hiddentools toolblocklist",
        "",
        "is a filter here: \"options\": { \"toolFilter\": { \"mode\": \"block\", \"list\": [ … ] } }",
    ),
    way(
        SERVER,
        "includetools enabledtools allowedtools include toolallowlist",
        "",
        "is a filter here: \"options\": { \"toolFilter\": { \"mode\": \"allow\", \"list\": [ … ] } }",
    ),
    way(
        SERVER,
        "autoapprove alwaysallow trust alwaysapprove autoallow approvalmode permissions",
        "",
        "the client asks its user before a call, or does not; the gateway cannot, so remove it",
    ),
    way(
        SERVER,
        "auth authentication authorization authprovider bearer bearertoken token \
         apikey accesstoken bearertokenenvvar credentials secret",
        "",
        "what the gateway shows to the server is a header: \"headers\": { \"Authorization\": \"Bearer ${API_KEY}\" }, or what \
         `upstreamAuth` says; who may use the server is said by `authTokens`",
    ),
    way(
        SERVER,
        "tokens allowedtokens alloweduser allowedusers groups clients allow access acl",
        "authTokens",
        "is `authTokens` here: names of tokens in `proxy.auth.tokens`, as in [\"dev\"]",
    ),
    key(SERVER, "scopes requiredroles allowedroles role", "roles"),
    way(
        SERVER,
        "noauth anonymous allowanonymous disableauth unauthenticated",
        "",
        "a server asks for a token here; name those that may use it in `authTokens`",
    ),
    way(
        SERVER,
        "envfile dotenv envfiles",
        "",
        "start the gateway with those variables (systemd: `EnvironmentFile=`), and give the program those that it may see: \
         \"env\": { \"NAME\": \"${NAME}\" }",
    ),
    way(
        SERVER,
        "inheritparentenv envfilter passenv inheritenvironment envpassthrough",
        "inheritEnv",
        "is `inheritEnv` here: the names of all variables that the program may see, as in [\"PATH\", \"HOME\", \"NAME\"], for it \
         takes the place of its defaults",
    ),
    way(
        SERVER,
        "restartonexit maxrestarts restartdelay restart restartpolicy retries maxretries stderr reconnect \
         keepalive",
        "",
        "a command that ends is always started again, after 0.1 to 30 s; remove it",
    ),
    way(
        SERVER,
        "timeoutms requesttimeout tooltimeout tooltimeoutsec requesttimeoutms calltimeout timeoutseconds",
        "timeout",
        "is `timeout` here, with a unit: \"30s\" or \"1500ms\"",
    ),
    way(
        SERVER,
        "connectiontimeout connecttimeout inittimeout startuptimeout startuptimeoutsec",
        "",
        "is `proxy.limits.connectTimeout` here, for all servers",
    ),
    key(SERVER, "upstreamtimeout responsetimeout", "timeout"),
    key(&["limits"], "maxconns maxclients connectionlimit", "maxConnections"),
    way(
        PROXY,
        "mcpservers servers",
        "",
        "servers stand beside `proxy`, not in it: { \"proxy\": { … }, \"mcpServers\": { … } }",
    ),
    key(SERVER, "sessiontimeout sessionidletimeout sessionttl", "idleTimeout"),
    key(SERVER, "ca cacert cafile cabundle cacertfile rootca certificateauthority", "caFile"),
    way(
        SERVER,
        "insecure insecureskipverify verify verifyssl sslverify rejectunauthorized tlsverify skipverify \
         allowinsecure",
        "",
        "a server's certificate is always checked; give the CA that signed it in `caFile`",
    ),
    way(
        SERVER,
        "image docker container",
        "command",
        "a container is a command here: \"command\": \"docker\", \"args\": [\"run\", \"-i\", \"--rm\", \"IMAGE\"]",
    ),
    way(
        SERVER,
        "name id icon gallery version metadata note notes comment title displayname category homepage \
         repository dev sandbox author schema",
        "",
        "has no effect here (a server is called by its key); remove it, or begin its name with _",
    ),
    way(
        SERVER,
        "instructionoverride tooldescriptionoverrides template instructions promptoverrides",
        "",
        "what a server says of itself passes as it is; remove it",
    ),
    way(
        SERVER,
        "servers delimiter discovery cachettl maxconnsperuser",
        "",
        "all servers are one at `/mcp` without a server for it; `proxy.aggregate` has `separator` and `discoveryTimeout`, and \
         `/mcp?servers=a,b` is a part of them",
    ),
    // `proxy.auth` and a token.
    key(AUTH, "type mode method scheme strategy", "kind"),
    way(
        AUTH,
        "token bearer bearertoken bearertokens apikey apikeys keys secret options",
        "tokens",
        "is `tokens` here, a name and a token for each caller: { \"dev\": { \"$env\": \"DEV_TOKEN\" } }",
    ),
    way(
        AUTH,
        "clientid clientsecret redirecturi allowedorgs oauth oidc provider discoveryurl tenantid google github azure entra",
        "idp",
        "is in `idp` here: { \"provider\": \"google\", \"clientId\": \"…\", \"clientSecret\": { \"$env\": \"SECRET\" } }",
    ),
    key(AUTH, "alloweddomain domains emaildomains hosteddomain hd", "allowedDomains"),
    way(
        AUTH,
        "sessionsecret",
        "",
        "the cookies of the pages have keys of their own, of `jwtSecret`; remove it",
    ),
    way(
        IDP,
        "alloweddomains domains emaildomains hosteddomain hd",
        "",
        "is `allowedDomains` beside `idp` here",
    ),
    key(IDP, "type kind name", "provider"),
    key(IDP, "id appid applicationid", "clientId"),
    key(IDP, "secret apppassword", "clientSecret"),
    key(IDP, "redirecturl callbackurl callback callbackuri", "redirectUri"),
    key(IDP, "tenant directoryid", "tenantId"),
    key(IDP, "orgs organizations organisations org", "allowedOrgs"),
    key(IDP, "discovery wellknown metadataurl configurationurl", "discoveryUrl"),
    key(IDP, "iss issuerurl", "issuer"),
    key(IDP, "authurl authorizeurl authorizationendpoint", "authorizationUrl"),
    key(IDP, "tokenendpoint", "tokenUrl"),
    key(IDP, "userinfo userinfoendpoint", "userInfoUrl"),
    key(IDP, "scope", "scopes"),
    way(
        AUTH,
        "audience audiences jwks jwksuri jwksurl jwt jwts trustedissuers tokenissuers",
        "issuers",
        "is in `issuers` here: { \"corp\": { \"issuer\": \"https://login.corp.example\", \"audiences\": [\"mcp\"] } }",
    ),
    key(AUTH, "assignments rolemappings claimmappings rolemapping claimmapping", "assign"),
    key(ISSUER, "iss url uri issuerurl issueruri authority", "issuer"),
    key(ISSUER, "jwks jwksuri jwkset jwkseturi keysurl keysuri keys certs", "jwksUrl"),
    way(
        ISSUER,
        "audience aud",
        "audiences",
        "is `audiences` here, a list of values of `aud`, as in [\"https://mcp.example.com\"]",
    ),
    key(ISSUER, "algorithm alg algs signingalgorithms supportedalgorithms", "algorithms"),
    key(ISSUER, "type types tokentype tokentypes", "typ"),
    key(ISSUER, "subjectclaim subclaim userclaim usernameclaim useridclaim", "principalClaim"),
    key(ISSUER, "scopes scope scopesclaim scpclaim", "scopeClaim"),
    key(ISSUER, "tenant tid", "tenantId"),
    key(ISSUER, "clockskew clocktolerance skew clockskewseconds", "leeway"),
    way(
        ISSUER,
        "introspectionurl introspectionuri introspectionendpoint",
        "",
        "is `url` in `introspection` here: { \"url\": \"https://login.corp.example/introspect\", \"clientId\": \"gate\", \
         \"clientSecret\": { \"$env\": \"SECRET\" } }",
    ),
    way(
        ISSUER,
        "clientid clientsecret",
        "",
        "the gateway is a client of the issuer only to ask it about tokens: write it into `introspection`, or remove it",
    ),
    key(INTROSPECTION, "endpoint uri introspectionurl introspectionuri introspectionendpoint", "url"),
    key(INTROSPECTION, "client id user username", "clientId"),
    key(INTROSPECTION, "secret password", "clientSecret"),
    key(INTROSPECTION, "ttl cache cacheduration cachefor", "cacheTtl"),
    key(INTROSPECTION, "prefix tokenprefixes", "tokenPrefix"),
    way(
        ISSUER,
        "roles servers tags rolesclaim roleclaim groupsclaim groupclaim",
        "",
        "what those get who come with its tokens is in `assign` beside `issuers`: { \"if\": { \"issuer\": \"corp\", \"claim\": \
         \"groups\", \"has\": \"eng\" }, \"roles\": [\"dev\"] }",
    ),
    key(ASSIGNMENT, "when match condition conditions where", "if"),
    way(
        CONDITION,
        "domain emaildomain domains",
        "email",
        "is `email` here, with all addresses of the host: \"*@corp.example\"",
    ),
    key(CONDITION, "value equals contains is eq", "has"),
    way(
        CONDITION,
        "group groups role roles",
        "claim",
        "is `claim` here, the name of the claim, and beside it what it `has`: { \"claim\": \"groups\", \"has\": \"eng\" }",
    ),
    way(
        AUTH,
        "allowedorigins",
        "",
        "is `proxy.allowedOrigins` here; pages of every origin may register and fetch tokens, where no cookie is read",
    ),
    way(
        AUTH,
        "allowedredirecturihosts allowanyredirecturihost",
        "registration",
        "is `registration` here: \"open\", or a list of hosts without scheme and port, as in [\"claude.ai\"]; clients on the \
         user's own machine may come in any case",
    ),
    way(
        AUTH,
        "gcpproject firestoredatabase firestorecollection",
        "",
        "logins are kept in a file of `proxy.stateDir`, or with `\"storage\": \"memory\"` not at all; remove it",
    ),
    way(
        AUTH,
        "dangerouslyacceptissueraudience",
        "",
        "a client that names no place has a token for all that its user may use, unless `requireResource` is true; remove it",
    ),
    way(
        CLIENT,
        "tokenendpointauthmethod",
        "",
        "follows from what the client has: `secretSha256`, `jwks` or `jwksUrl`, or none of them; remove it",
    ),
    way(
        CLIENT,
        "secret clientsecret sha256 secrethash",
        "secretSha256",
        "is `secretSha256` here, the SHA-256 of the secret in 64 hex digits",
    ),
    key(
        CLIENT,
        "redirecturi redirects redirect callbackurl callbackurls redirecturl redirecturls",
        "redirectUris",
    ),
    key(CLIENT, "granttypes grant granttype", "grants"),
    key(CLIENT, "keys publickey publickeys", "jwks"),
    key(CLIENT, "jwksuri", "jwksUrl"),
    key(CLIENT, "scope", "scopes"),
    way(CLIENT, "audience", "", "which place a token is for is what the client asks for; remove it"),
    way(CLIENT, "id clientid name clientname", "", "the `client_id` is the key in `clients`; remove it"),
    way(AUTH, "enabled required public", "", "a token is always asked for; remove it"),
    way(
        AUTH,
        "location paramname prefix headername realm",
        "",
        "a token is sent as `Authorization: Bearer …`, and nothing else; remove it",
    ),
    way(
        SERVER,
        "config settings server",
        "",
        "what stands in it stands in the server itself here: `url`, or `command`, `args` and `env`",
    ),
    key(TOKEN, "token secret plain password plaintext bearer key apikey", "value"),
    key(TOKEN, "hash digest sha tokenhash hashed sha256hash", "sha256"),
    key(TOKEN, "expiry expiresat exp validuntil notafter expire expiration until", "expires"),
    way(
        TOKEN,
        "ttl expiresin maxage lifetime",
        "expires",
        "is `expires` here, a moment in UTC: \"2027-01-31T00:00:00Z\"",
    ),
    key(TOKEN, "role scope scopes permissions groups", "roles"),
    way(TOKEN, "env environment fromenv envvar variable", "value", "is written { \"$env\": \"NAME\" } here"),
    way(TOKEN, "file path fromfile tokenfile", "value", "is written { \"$file\": \"PATH\" } here"),
    way(TOKEN, "name user username", "", "the name of a token is its key in `tokens`; remove it"),
    way(
        TOKEN,
        "allowedservers mcpservers allow access",
        "servers",
        "is `servers` here: names in `mcpServers`, beside what the `authTokens` of each server say",
    ),
    key(TLS, "certificate certfile crt pem certpath fullchain certificatefile", "cert"),
    key(TLS, "keyfile privatekey keypath privkey certkey certificatekey", "key"),
    key(TLS, "auto generate snakeoil development dev", "selfSigned"),
    way(TLS, "enabled enable", "", "`tls` is on as soon as it is there; remove it"),
    way(
        TLS,
        "ca cafile clientca clientauth mtls",
        "",
        "certificates of clients are not asked for; remove it",
    ),
    way(
        TLS,
        "acme letsencrypt autocert email",
        "",
        "the gateway orders no certificates; let an ACME client write the files that `cert` and `key` name, which are followed",
    ),
    key(&["log"], "loglevel verbosity severity", "level"),
    key(&["log"], "logformat type style output encoding", "format"),
    key(&["sessions"], "idletimeout ttl sessiontimeout maxage", "timeout"),
    key(&["aggregate"], "delimiter prefix namespaceseparator", "separator"),
    key(&["aggregate"], "discovery timeout", "discoveryTimeout"),
    key(&["aggregate"], "collision conflict onconflict conflictresolution", "onCollision"),
    key(&["aggregate"], "lazyloading lazymode", "lazy"),
    way(
        &["aggregate"],
        "servers cachettl maxconnsperuser enabled",
        "",
        "has no effect here: all servers are one at `/mcp`, and `/mcp?servers=a,b` is a part of them; remove it",
    ),
    way(
        &["admin"],
        "port host listen address",
        "addr",
        "host and port are one key here: \"addr\": \"127.0.0.1:9090\"",
    ),
    way(
        &["admin"],
        "enabled adminemails users",
        "",
        "who may manage the gateway has a token of the role `admin`; remove it",
    ),
    way(&["options"], "panicifinvalid logenabled authtoken", "", "has no effect here; remove it"),
    key(&["toolFilter"], "tools names allow block deny items", "list"),
    key(&["toolFilter"], "type kind action", "mode"),
    key(&["tool"], "schema input parameters inputs arguments", "inputSchema"),
    // `upstreamAuth`.
    way(
        SERVER,
        "tokenformat usertoken tokentype",
        "upstreamAuth",
        "is `upstreamAuth` here: { \"kind\": \"user_token\", \"header\": \"Authorization\", \"format\": \"Bearer {token}\" }",
    ),
    way(
        SERVICE_AUTH,
        "tokens bearer",
        "",
        "who may come in stands in `proxy.auth.tokens`, each with a name; list the names of those that may use this server in its \
         `authTokens`, since without that any token may",
    ),
    way(
        SERVICE_AUTH,
        "username password hashedpassword",
        "",
        "who comes by a password is one of `proxy.auth.users`, with \"basic\" in `proxy.auth.schemes`; list in `users` of this server \
         those that may use it",
    ),
    key(UPSTREAM_AUTH, "iss issuerurl issueruri authserver authorizationserver", "issuer"),
    key(UPSTREAM_AUTH, "authurl authorizeurl authurlendpoint authendpoint", "authorizationUrl"),
    key(UPSTREAM_AUTH, "id appid applicationid", "clientId"),
    key(UPSTREAM_AUTH, "secret apppassword", "clientSecret"),
    key(UPSTREAM_AUTH, "tokenendpointauthmethod clientauth clientauthmethod", "tokenAuth"),
    key(UPSTREAM_AUTH, "redirecturi callbackurl callbackuri redirecturis callback", "redirectUrl"),
    key(UPSTREAM_AUTH, "scope requiredscopes", "scopes"),
    key(UPSTREAM_AUTH, "headername", "header"),
    key(UPSTREAM_AUTH, "name title label", "displayName"),
    key(UPSTREAM_AUTH, "regex pattern", "validation"),
    key(UPSTREAM_AUTH, "value bearer bearertoken apikey accesstoken", "token"),
    key(UPSTREAM_AUTH, "dynamicregistration dcr register", "autoRegister"),
    way(
        UPSTREAM_AUTH,
        "discoveryurl wellknown metadataurl",
        "issuer",
        "is `issuer` here, without what the standard puts behind it: \"https://login.example.com\"",
    ),
    way(
        UPSTREAM_AUTH,
        "granttype granttypes",
        "kind",
        "is `kind` here: \"client_credentials\" for the gateway itself, \"user_oauth\" for each caller's own account",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table::{REFERENCE, ROOT, key::objects};

    #[test]
    fn no_word_is_a_key_and_every_meaning_is_one() {
        let mut all: Vec<_> = objects(&ROOT).into_iter().map(|(_, object)| object).collect();
        all.push(&REFERENCE);
        for entry in TABLE {
            for word in entry.words.split(' ') {
                assert!(!word.is_empty() && plain(word) == word, "{word}");
                for object in all.iter().filter(|object| entry.objects.contains(&object.name)) {
                    let is_key = object.names().contains(&word);
                    assert!(!is_key, "{word} is a key of {}", object.name);
                }
            }
            for name in entry.objects {
                let object = all.iter().find(|object| object.name == *name).expect("an object of the table");
                let is_there = object.key(entry.key).is_some() || entry.key.is_empty();
                // `addr` is one level further down.
                assert!(is_there || (*name, entry.key) == ("config", "addr"), "{}.{}", name, entry.key);
            }
            assert!(!entry.key.is_empty() || !entry.way.is_empty(), "{:?}", entry.words);
        }
    }

    #[test]
    fn no_way_leads_towards_danger() {
        for entry in TABLE {
            for danger in ["public: true", "\"public\": true", "allowPlainHttp", "queryToken", "\"*\""] {
                assert!(!entry.way.contains(danger), "{}", entry.way);
            }
            assert!(!["public", "allowPlainHttp", "queryToken"].contains(&entry.key), "{:?}", entry.words);
        }
    }

    #[test]
    fn a_word_means_what_it_means_where_it_stands() {
        let key = |object, word| meaning(object, word).map(|meaning| meaning.key);
        assert_eq!(key("server", "cmd"), Some("command"));
        assert_eq!(key("server", "working_directory"), Some("cwd"));
        assert_eq!(key("token", "token"), Some("value"));
        assert_eq!(key("auth", "token"), Some("tokens"));
        assert_eq!(key("limits", "cmd"), None);
    }
}
