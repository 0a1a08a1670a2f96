"""Words that decide whether a name names a credential and whether a value can be one.

Invariant: data only, lower case. Names are cut into words before they are looked up here, so that
``token_count`` is the words *token* and *count*, and ``apiKey`` is *api* and *key*.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Who trading code talks to; ``<service> ... key`` names a credential although ``key`` alone does not.
SERVICES: Final = _words(
    "alchemy alpaca alphavantage angelone anthropic apca avanza aws azure backpack barchart benzinga "
    "binance bingx bitfinex bitflyer bitget bithumb bitmex bitpanda bitso bitstamp bitvavo blofin bloomberg "
    "bybit ccxt cmc coinapi coinbase coindcx coindesk coingecko coinglass coinmarketcap cohere "
    "cryptocompare cryptoquant dash databento deepseek deribit dhan discord dune dydx ebest eodhd etherscan "
    "etoro etrade exante factset fidelity finage finnhub firstrade flattrade fmp fred fxcm fyers gateio "
    "gemini github gitlab glassnode google groq hashkey htx huobi hyperliquid ibkr icicidirect iexcloud ig "
    "infura intrinio iqfeed kalshi kis kiteconnect korbit kotak kraken kucoin lemonmarkets lighter "
    "marketstack mexc mistral moonshot morningstar nasdaq ndax newsapi nexo oanda okex okx openai "
    "openrouter orats paradex perplexity phemex pinecone poloniex polygon polymarket probit quandl quiknode "
    "quiver rakuten refinitiv robinhood santiment saxo schwab sendgrid shoonya simfin slack snaptrade "
    "stripe tastytrade tdameritrade tdex tiingo together topstep tradeapi tradeovate tradestation tradier "
    "tradovate trading212 tushare twelvedata twilio unusualwhales upbit upstox wandb whitebit woo woox xai "
    "xtb zerodha"
)

# Those whose bare name is used for the key itself, as in ``FINNHUB=<key>``.
KEYED_SERVICES: Final = _words(
    "alchemy alpaca alpha_vantage alphavantage anthropic binance bitfinex bitget bitmex bitstamp bybit coinapi "
    "coinbase coingecko coinglass coinmarketcap cryptocompare databento deepseek deribit eodhd etherscan finnhub "
    "glassnode groq huggingface iexcloud infura intrinio kraken kucoin marketstack news_api newsapi oanda openai "
    "polygon quandl quiknode telegram tiingo tradier twelve_data twelvedata unusual_whales unusualwhales"
)

# Words before "key" that make it one that opens something.
KEY_LEADS: Final = _words(
    "access account admin aes api app auth client consumer crypt cryptographic decrypt decryption encrypt "
    "encryption exchange hmac jwt license licence master private priv secret secure security server service "
    "session shared sign signing signature storage subscription totp trading user vault wallet webhook "
    "write"
)

# Before "pk", which otherwise is a table's primary key.
PRIVATE_KEY_LEADS: Final = _words(
    "wallet eth evm sol solana private deployer signer trader bot owner funder hot"
)

# Words before "key" that make it the key of a table, a cache, a dictionary or a keyboard, or one that may be
# published.
KEY_OF_SOMETHING: Final = _words(
    "arrow artifact attr block bucket cache cached candidate checkpoint column composite config contract "
    "correlation data db dedup dedupe dict entry enter event experiment feature field file flag foreign "
    "func group groupby hash host hot idempotency idx index instrument item job join json key label lock "
    "lookup map mapping market memo message meta metadata metric msg name natural object order param "
    "partition pivot position price primary product property public range record redis request result route "
    "routing row run s3 schema search series session_id set shard shortcut signal socket sort state "
    "strategy surrogate symbol tab table tag task test threshold ticker time trade translation type unique "
    "url version window workflow yaml"
)

# Before "keys": a list of them, not the keys of a table.
LISTED_KEY_LEADS: Final = _words("api secret access private auth")

# The same as a part of its own: broker.api.key.
DOTTED_KEY_LEADS: Final = _words("api secret access private")

PASSWORD_WORDS: Final = _words(
    "password passwords passwd pwd passphrase passcode passwort psswd passw pswd pw psk mpin"
)
SECRET_WORDS: Final = _words("secret secrets")
TOKEN_WORDS: Final = _words("token tokens")
OTHER_WORDS: Final = _words("credential credentials creds cred mnemonic")

# Before "pass" alone, which also means a test that succeeded.
PASS_LEADS: Final = _words(
    "account admin airflow amqp api app archive arctic auth become bind broker cassandra cert clickhouse "
    "client cockroach console couchdb dashboard database db elastic email ftp gateway grafana http ibkr "
    "imap influx jdbc jenkins jupyter kafka kdb keystore ldap login mail mariadb minio mongo mongodb mqtt "
    "mssql mysql nats neo4j opensearch oracle p12 pfx pg pgsql postgres postgresql proxy questdb rabbitmq "
    "redis redshift registry repo root router samba sftp smtp snowflake sql sqlserver ssh ssl sudo "
    "superset superuser sys timescale timescaledb trino truststore user vault vnc vpn warehouse wifi zip"
)

# Words that may follow without changing what the name names.
NEUTRAL_TAIL: Final = _words(
    "value val str string text plain plaintext cleartext raw literal prod production live test testing "
    "testnet sandbox dev base develop development stage staging main mainnet paper demo real old new current "
    "previous prev backup default fallback local remote primary secondary master slave read write readonly "
    "ro rw b64 base64 hex bytes a b c x y z us eu uk asia global internal external bot user admin root db "
    "api app service svc spot futures swap margin pro v"
)

# Words that turn the name into something about a credential: how many, how long, where from, of which kind.
NOT_CREDENTIAL: Final = _words(
    "account accounts program programs addr address addresses alg algo algorithm alias attempt attempts "
    "attr attribute balance bucket budget cache cached category change changed check checker checks "
    "checksum class classes col column columns config confirm confirmation cost count counter counts "
    "created criteria ctx decimals decoder delimiter desc description digest dim dir directory duration "
    "embedding embeddings empty encoder endpoint enabled env error errors event exists expiration expire "
    "expired expires expiry exp extractor factory field fields file filename files filter flag folder "
    "forgot form format func function generator getter handler has hash hashed hashes header headers help "
    "hint id identifier idx ids incorrect index indices info input instrument invalid is issuer keys kind "
    "label labels len length lengths level lifetime limit limits link list loader location logits loss "
    "manager map mapping mask masked mint max maximum mean message messages meta metadata method min "
    "minimum missing mode model msg name names needed next no num number offset order output page pair "
    "pairs param parameter params parser path paths pattern permission permissions placeholder policy pool "
    "position positions precision prefix price prices probs prompt properties property provider public "
    "publishable quantity rate ratio ref reference regex regexp request required requires reset resolver "
    "response retries role rotation rule rules salt salted schema scope scopes score sequence setter show "
    "size source span split spread standard start state status stop storage store stream strength struct "
    "suffix supply symbol symbols tag temperature template threshold time timeout timestamp title tokenizer "
    "total totals tooltip transform ttl type types uri url usage used validate validation validator var "
    "variable version visibility visible vocab vocabulary volume weight weights width window wrong"
)

# The same, in front of the credential's own word.
NOT_CREDENTIAL_LEADS: Final = _words(
    "ask avg build check compare count create decode delete digest encode encoded encrypted expected fetch "
    "find forgot forgotten generate get has hash hashed hide incorrect instrument invalid is load lookup "
    "make mask masked max maximum mean min minimum missing n no num number parse prompt public publishable "
    "required requires reset retrieve salted show toggle total use uses validate verify wrong"
)

# Before or after "token": a piece of text for a model, a coin, or a place in a listing.
TOKEN_NOT_CREDENTIAL: Final = _words(
    "base bos cls completion context continuation contract cursor decode end eos erc erc20 first from "
    "generated idempotency image in last left lp mint next nextpage nft num out pad page pagination pay per "
    "prompt quote reasoning received reward right sep sell buy special speech text think sync to "
    "transaction trade traded unk utility vision whisper word words wrapped"
)

# The value is said to be a stand-in if one of these is a word of it.
PLACEHOLDER_WORDS: Final = _words(
    "your yours changeme changeit change changethis placeholder example examples sample dummy fake mock "
    "mocked redacted removed masked hidden censored omitted replace replaceme insert todo tbd fixme fill "
    "fillme enter somewhere here undefined none null nil notset unset empty optional required unknown "
    "invalid missing xxx xxxx xxxxx xxxxxx xxxxxxxx foo bar baz foobar lorem ipsum qux notreal nosecret "
    "notasecret goes"
)

# A whole value that says nothing.
EMPTY_VALUES: Final = _words(
    "true false yes no on off none null nil undefined nan string str bytes text int integer float number "
    "bool boolean object array list dict any secret password passwd passphrase token apikey api_key api-key "
    "key user username admin root guest public private default test testing tester tests demo value values "
    "secretvalue pass pwd postgres mysql redis mongo rabbitmq elastic anonymous nobody localhost bearer "
    "basic digest oauth oauth2 jwt hmac password1 passw0rd mypassword mypass mysecret secretkey secret_key "
    "accesskey access_key accesstoken access_token disabled enabled encrypted incorrect expired revoked "
    "refreshed rotated rejected accepted verified validated generated authenticated authentication "
    "authorization authorized unauthorized successful successfully failed credentials credential provided "
    "mandatory sensitive protected confidential environment keyring keychain interactive plaintext "
    # What the fields are called in other languages.
    "passwort kennwort geheimnis contrasena senha segredo wachtwoord heslo salasana losenord adgangskode "
    "parola lozinka jelszo secreto jeton segreto"
)

# Passwords that stand in addresses because the documentation has them there.
DEFAULT_PASSWORDS: Final = _words(
    "pass password passwd pwd secret pw user username admin root guest test postgres mysql redis mongo "
    "rabbitmq token apikey key  1234 12345 123456 xxx"
)

# Words of sentences; a passphrase holds none of them.
STOP_WORDS: Final = _words(
    "a an and are as at be by can cannot do enter for from has have if in invalid is it login must no not "
    "of on or our please provide should that the this to was when which will with you your"
)

# Endings of file names: in source code a bare value is an expression, in settings it is a value.
CODE_ENDINGS: Final = _words(
    "py pyi pyx js jsx mjs cjs ts tsx java go rs c h cc cpp hpp cs kt scala swift rb php pl lua r jl m sol "
    "dart ex"
)
CONFIG_ENDINGS: Final = _words(
    "env ini cfg conf config toml yaml yml properties sh bash zsh fish bat cmd ps1 tf tfvars service "
    "dockerfile netrc npmrc pypirc envrc pgpass secrets credentials"
)

# Names written in one piece: how they end, longest first.
GLUED: Final = sorted(
    _words(
        "secretkey accesskey privatekey apikey authkey appkey signingkey encryptionkey masterkey accountkey "
        "clientsecret appsecret apisecret secret accesstoken authtoken bottoken apitoken refreshtoken token "
        "password passwd passphrase pwd"
    ),
    key=lambda word: (-len(word), word),
)
