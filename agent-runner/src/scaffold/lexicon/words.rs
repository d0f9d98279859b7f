//! The table of words.

use super::super::plan::{Feature, Operation, Quality};
use super::{Form, Meaning};

/// Meanings with their words and phrases, separated by bars.
pub const WORDS: &[(Meaning, &str)] = &[
    (
        Meaning::Operation(Operation::Add, Form::Verb),
        "add|adds|adding|added|add up|adds up|adding up|sums up|sum up",
    ),
    (
        Meaning::Operation(Operation::Add, Form::Noun),
        "addition|additions|sum|sums|plus|plus sign",
    ),
    (
        Meaning::Operation(Operation::Subtract, Form::Verb),
        "subtract|subtracts|subtracting|subtracted|take away|deduct",
    ),
    (
        Meaning::Operation(Operation::Subtract, Form::Noun),
        "subtraction|subtractions|minus|minus sign|difference|differences",
    ),
    (
        Meaning::Operation(Operation::Multiply, Form::Verb),
        "multiply|multiplies|multiplying|multiplied|multiplied by",
    ),
    (
        Meaning::Operation(Operation::Multiply, Form::Noun),
        "multiplication|multiplications|times|product of|products of|the product of",
    ),
    (
        Meaning::Operation(Operation::Divide, Form::Verb),
        "divide|divides|dividing|divided|divided by|divide by",
    ),
    (
        Meaning::Operation(Operation::Divide, Form::Noun),
        "division|divisions|quotient|quotients",
    ),
    (
        Meaning::Operation(Operation::Power, Form::Verb),
        "raise to a power|raise to the power of|raises to a power|raise a number to a power|raise numbers to a power|\
         raise numbers to powers|raises numbers to a power|raise a number to the power of another|raised to the power of|\
         raised to|exponentiate|exponentiates",
    ),
    (
        Meaning::Operation(Operation::Power, Form::Noun),
        "power|powers|power of|to the power of|exponent|exponents|exponentiation|pow",
    ),
    (
        Meaning::Operation(Operation::Modulo, Form::Noun),
        "modulo|modulus|mod|remainder|remainders|remainder of a division|remainder of the division|remainder of division|\
         remainder after division|division remainder|remainder of dividing",
    ),
    (
        Meaning::Operation(Operation::SquareRoot, Form::Noun),
        "square root|square roots|sqrt|root of a number",
    ),
    (
        Meaning::Operation(Operation::Percent, Form::Noun),
        "percent|percents|percentage|percentages|per cent|percent sign",
    ),
    (
        Meaning::Operation(Operation::Negate, Form::Verb),
        "negate|negates|negating|change sign|change the sign|change the sign of|changes the sign|toggle sign|toggle the sign|\
         flip the sign|flip sign|switch the sign",
    ),
    (
        Meaning::Operation(Operation::Negate, Form::Noun),
        "negation|negative number|negative numbers|sign change|negative values|negative and positive numbers|\
         positive and negative numbers|plus or minus sign",
    ),
    (
        Meaning::Feature(Feature::Memory),
        "memory|m+|mr|mc|add to memory|adds to memory|add to the memory|clear memory|clear the memory|recall memory|\
         memory recall|memory clear|memory plus|memory store|store a number in memory|store numbers in memory|\
         store a value in memory|store values in memory|store the result in memory|save a number in memory|\
         save the result in memory|store a number in the memory|recall a stored number|recall a number|recall numbers",
    ),
    (
        Meaning::Feature(Feature::MemoryMinus),
        "m-|memory minus|subtract from memory|subtract from the memory",
    ),
    (
        Meaning::Feature(Feature::History),
        "history|clear history|clear the history|previous calculations|past calculations|recent calculations|\
         earlier calculations|last calculations|previous results|past results|recent results|earlier results|\
         log of calculations|log of all calculations|calculation log",
    ),
    (
        Meaning::Feature(Feature::Keyboard),
        "keyboard|keyboards|without a mouse|without mouse|without the mouse|without using a mouse|keyboard shortcuts|keyboard navigation|keyboard input|typing|keystrokes|key presses",
    ),
    (
        Meaning::Feature(Feature::DarkMode),
        "dark mode|dark theme|dark|night mode|light and dark|dark and light|light and dark mode|dark and light mode|\
         light and dark theme|dark and light theme|light and dark themes|dark and light themes|light and dark modes|\
         light or dark mode|light mode and dark mode|dark mode and light mode|theme switch|theme toggle|dark design",
    ),
    (
        Meaning::Feature(Feature::Backspace),
        "backspace|backspace key|delete the last digit|deletes the last digit|delete last digit|remove the last digit|\
         removes the last digit|undo the last digit|erase the last digit|delete digits|delete single digits",
    ),
    (
        Meaning::Quality(Quality::Browser),
        "browser|browsers|web|web browser|web browsers|web app|web application|web page|webpage|website|web site|html|\
         single page|single page app|single page application|modern browsers|chrome|firefox|safari|edge",
    ),
    (
        Meaning::Quality(Quality::Responsive),
        "responsive|responsive design|responsive layout|mobile|mobile friendly|mobile device|mobile devices|phone|phones|\
         smartphone|smartphones|tablet|tablets|desktop|small screens|large screens|small and large screens|screen size|\
         screen sizes|all screen sizes|different screen sizes",
    ),
    (
        Meaning::Quality(Quality::Accessible),
        "accessible|accessibility|a11y|screen reader|screen readers|aria|aria labels|blind people|blind users",
    ),
    (
        Meaning::Quality(Quality::Tested),
        "test|tests|tested|testing|unit test|unit tests|unit tested|automated tests|automatic tests|e2e|e2e test|e2e tests|\
         end to end test|end to end tests|playwright|vitest|well tested|fully tested|thoroughly tested",
    ),
    (
        Meaning::Quality(Quality::Clean),
        "clean code|readable code|maintainable|maintainable code|lint|linted|linting|eslint|code quality|well structured|\
         good code|lint free|clean|readable|modular|code",
    ),
    (
        Meaning::Quality(Quality::TypeScript),
        "typescript|strict typescript|strict|strict mode|type safe|strictly typed|vite|statically typed",
    ),
    (
        Meaning::Quality(Quality::Look),
        "simple|modern|nice|nice looking|good looking|looks good|look good|looks nice|look nice|beautiful|pretty|attractive|user friendly|easy to use|\
         easy|intuitive|design|interface|ui|user interface|look|looks|style|styled|styling|layout|elegant|neat|minimal|\
         minimalist|minimalistic|large buttons|big buttons",
    ),
    (
        Meaning::Quality(Quality::Speed),
        "fast|quick|quickly|instantly|immediately|lightweight|small and fast|at once|loads quickly|loads fast|load fast",
    ),
    (
        Meaning::Quality(Quality::Documented),
        "readme|documentation|documented|well documented",
    ),
    (
        Meaning::Quality(Quality::Message),
        "message|messages|error message|error messages|clear message|clear error message|clear error messages|clear error|\
         friendly message|friendly error message|helpful message|helpful error message|understandable message|\
         meaningful error message|meaningful message|error|invalid input|invalid inputs|invalid operations|\
         error handling|proper error handling|warning|errors|raise an error|raises an error|throw an error|throws an error|message instead of a number|message instead of a result|\
         error instead of a number|error instead of a result",
    ),
    (
        Meaning::Quality(Quality::ByZero),
        "division by zero|divisions by zero|divide by zero|dividing by zero|divides by zero|divided by zero|zero division|\
         division by 0|divide by 0|dividing by 0|divides by 0|divided by 0|zero divisor|a divisor of zero|\
         dividing a number by zero|divide a number by zero|divides a number by zero|divide anything by zero|\
         dividing any number by zero|number is divided by zero|divisor is zero|divisor is 0|the second number is zero|\
         by zero|by 0",
    ),
    (
        Meaning::Quality(Quality::Robust),
        "robust|robustly|stable|reliable|reliably|gracefully|no error|no errors|without error|without errors|\
         without any error|without any errors|error free",
    ),
    (
        Meaning::Quality(Quality::Clear),
        "clear|clears|clearing|clear key|clear button|reset|resets|reset button|all clear|ac|c button|c key|c|clear the display|\
         clears the display|start over",
    ),
    (
        Meaning::Quality(Quality::Decimals),
        "decimal|decimals|decimal point|decimal number|decimal numbers|decimal values|floating point numbers|\
         floating point|decimal separator|two decimal numbers",
    ),
    (
        Meaning::Quality(Quality::Chaining),
        "chain|chained|chaining|chained calculations|chained operations|one after another|one after the other|in a row|\
         from left to right|left to right|continue with the result|goes on with the result|go on with the result|\
         calculate with the result|further calculations",
    ),
    (
        Meaning::Quality(Quality::Pointer),
        "mouse|touch|touchscreen|touch screen|touch screens|clicking|tapping|click|tap|mouse clicks",
    ),
    (
        Meaning::Quality(Quality::Absent),
        "login|logins|log in|sign in|sign up|account|accounts|user account|user accounts|registration|database|databases|\
         backend|server|servers|cookie|cookies|tracking|ads|advertisement|advertisements|analytics|network|\
         network access|internet|internet connection|framework|frameworks|react|vue|angular|dependency|dependencies|\
         library|libraries|external libraries|external dependencies|runtime dependencies|third party libraries|\
         external services|third party services|api|apis|storage|persistence|payment|payments|page reload|page reloads|\
         reload|reloading|reloading the page|crash|crashes|crashing|crashed|bug|bugs|lint errors|type errors|console errors|\
         nan|infinity|undefined|web server|web servers|data collection|installation|model|models|telemetry|popups|pop ups|scientific functions",
    ),
    (
        Meaning::Calculator,
        "calculator|calculators|calculate|calculates|calculating|calculation|calculations|compute|computes|computing|\
         computation|computations|arithmetic|math|maths|mathematics|sums and differences calculator",
    ),
    (Meaning::Article, "a|an|the|any"),
    (
        Meaning::Operand,
        "number|numbers|value|values|operand|operands|integer|integers|whole numbers|two numbers|2 numbers|two values|\
         two operands|two integers|both numbers|several numbers|any numbers|any two numbers|three numbers|many numbers|\
         real numbers|two whole numbers|two given numbers|given numbers|pairs of numbers|them|together|\
         one number to another|one number from another|a number to another|a number from another|one number by another|\
         a number by another|each other",
    ),
    (
        Meaning::Control,
        "key|keys|button|buttons|operation|operations|operator|operators|function|functions|symbol",
    ),
    (
        Meaning::Statement,
        "it|they|we|i|you|there|has|have|having|had|support|supports|supported by|show|shows|showing|shown|display|displays|\
         displayed|offer|offers|provide|provides|include|includes|contain|contains|work|works|must|should|shall|will|would|\
         can|could|may|might|need|needs|want|wants|like|does|do|is|are|be|was|were|allow|allows|let|lets|enable|enables|\
         perform|performs|handle|handles|handled|use|uses|used|run|runs|get|gets|give|gives|return|returns|tell|tells|say|says|report|reports|reported|detect|detects|guard against|guards against|\
         protect against|implement|\
         implements|create|make|makes|build|built|develop|write|written|come|comes|appear|appears|keep|keeps|see|\
         users can|user can|the user can|a user can|users should be able to|the user should be able to|\
         users must be able to|the user must be able to|users are able to|the user is able to|people can|one can|\
         as a user i want to|as a user i want|allow users to|allows users to|allow the user to|allows the user to|\
         let users|lets users|let the user|lets the user|lets you|able to|be able to",
    ),
    (
        Meaning::Filler,
        "support for|supports for|to|of|for|in|on|at|by|from|as|into|via|through|between|after|before|also|too|both|all|each|every|such as|\
         including|eg|ie|namely|for example|for instance|following|app|application|program|tool|project|software|\
         the product|this product|our product|basic|standard|common|usual|simple to use|classic|little|small|tiny|sample|\
         demo|example|pocket|desk|home|office|school|children|kids|students|everyone|everybody|people|everyday use|\
         daily use|my|our|your|its|their|this|that|these|those|which|who|when|whenever|if|while|where|then|so|well|\
         properly|correct|correctly|right|accurate|accurately|always|result|results|answer|answers|output|input|inputs|\
         enter|entering|entered|enters|type|types|typed|press|presses|pressing|pressed|digit|digits|keypad|numpad|screen|\
         page|instead of|alone|own|new|feature|features|functionality|option|mode|view|list|please|not only|\
         as well|as well as|at all times|in use|user|using|only valid|easily|clearly|visible|single|one|of course|up|for users|for the user|for a user|by the user|by users|\
         given|implementation|toggle|switch|switched on and off|supporting|providing|offering|usable|operated|operable|\
         fully|completely|entirely|equals|equal|equals sign|equals key|equals button|enter key|escape key|esc|attempt|attempts|attempting|\
         tried|try|trying|happens|occurs|mathematical|arithmetical|numeric|shown instead|friendly|written in|based",
    ),
    (
        Meaning::Not,
        "no|not|without|never|cannot|can't|don't|doesn't|isn't|aren't|shouldn't|mustn't|won't|needn't|except|except for|\
         excluding|exclude|excludes|avoid|avoids|avoiding|lacks|lacking|omit|omits|omitting|skip|neither|no need for|\
         there is no need for|but no|but not|but without|other than|must not|should not|shall not|will not|does not|do not|\
         can not|is not|are not|may not|need not|prevent|prevents|preventing|reject|rejects|rejecting|without any|free of|leave out|leaving out|apart from",
    ),
    (Meaning::Or, "or|nor|and or"),
    (Meaning::And, "and|plus also|along with|together with"),
    (
        Meaning::Needed,
        "needed|required|necessary|wanted|allowed|supported|included|present|available|offered|provided|desired|implemented",
    ),
    (
        Meaning::Needless,
        "unnecessary|unneeded|unwanted|forbidden|excluded|disallowed|not needed|not required|not necessary|not wanted|\
         not allowed|not supported|not included|not available|not desired|not part of it|left out|omitted",
    ),
    (
        Meaning::But,
        "but|but also|yet|however|although|instead|whereas|otherwise|rather",
    ),
    (Meaning::With, "with"),
    (
        Meaning::Only,
        "only|just|solely|exclusively|nothing but|nothing else|nothing more",
    ),
    (
        Meaning::Bound,
        "at least|more than|over|above|minimum|a minimum of|minimum of",
    ),
    (
        Meaning::Coverage,
        "coverage|test coverage|code coverage|line coverage|lines covered|covered|lines",
    ),
];

/// What the four operations may be called, in two parts: one of these, then one of those.
pub const FOUR: (&[&str], &[&str]) = (
    &[
        "four",
        "4",
        "basic",
        "four basic",
        "4 basic",
        "standard",
        "simple",
        "usual",
        "common",
        "elementary",
        "fundamental",
        "four standard",
        "four usual",
        "four elementary",
        "four fundamental",
    ],
    &[
        "operations",
        "operation",
        "operators",
        "functions",
        "function",
        "arithmetic",
        "arithmetic operations",
        "arithmetic operators",
        "arithmetic functions",
        "math",
        "maths",
        "math operations",
        "mathematical operations",
        "mathematics",
        "calculations",
        "math functions",
        "arithmetical operations",
        "operations of arithmetic",
    ],
);
